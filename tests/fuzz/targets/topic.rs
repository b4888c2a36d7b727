//! Topics: what parses is exactly what is built from its id, so no text but a checked id gets through.

use hunhe_fuzz::{Target, run};
use hunhe_proto::{
    id::Id,
    topic::{self, Topic},
};

#[test]
fn topics_are_refused_or_built_back_from_their_id() {
    let _alone = crate::alone();
    let id = |text: &str| Id::new(text).unwrap();
    let names = ["a", "dma-1", "g-0f3a", "abcdefghijklmnopqrstuvwxyz012345"];
    let made = names.iter().flat_map(|name| {
        let id = id(name);
        [topic::up(id), topic::alarm(id), topic::state(id), topic::durable(id)]
    });
    let target = Target {
        words: &[
            b"hunhe/v1/",
            b"agents",
            b"/up",
            b"/alarm",
            b"/state",
            b"+",
            b"#",
            b"$",
            b"/",
            b"\0",
            b"\xe2\x80\xae",
        ],
        ..crate::target("topic", made.map(String::into_bytes).collect(), 1 << 10)
    };
    let outcome = run(&target, |bytes| {
        let Ok(read) = topic::parse(bytes) else { return false };
        let built = match read {
            Topic::Up(id) => topic::up(id),
            Topic::Alarm(id) => topic::alarm(id),
            Topic::State(id) => topic::state(id),
        };
        assert_eq!(built.as_bytes(), bytes);
        let (Topic::Up(id) | Topic::Alarm(id) | Topic::State(id)) = read;
        assert!((1..=32).contains(&id.as_str().len()));
        assert!(
            id.as_str()
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        );
        true
    });
    crate::reached_both_sides(outcome);
}
