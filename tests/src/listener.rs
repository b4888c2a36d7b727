//! A port on loopback, and whoever connects to it.

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

const POLL: Duration = Duration::from_millis(2);

/// Hands over each connection on a thread of its own making until `ended`; answers the port.
///
/// # Panics
/// There is no port.
pub(crate) fn listen(
    ended: impl Fn() -> bool + Send + 'static,
    mut taken: impl FnMut(TcpStream) + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.set_nonblocking(true).expect("a listener that does not block");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        while !ended() {
            match listener.accept() {
                Ok((socket, _)) => taken(socket),
                Err(_) => std::thread::sleep(POLL),
            }
        }
    });
    port
}
