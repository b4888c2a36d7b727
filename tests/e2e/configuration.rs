//! A bad configuration is told whole: five faults, five lines, before anything opens.

use std::{fs, net::TcpListener};

use hunhe_tests::{command_of, process::free_port, seeds};

/// (line in the file, what stands there, the key the fault must name).
const FAULTY: [(&str, &str); 5] = [
    ("port = 70000", "broker.port"),
    ("inflght_max = 64", "broker.inflght_max"),
    ("segment_bytes = \"large\"", "journal.segment_bytes"),
    ("retention = \"1d\"", "embedded.retention"),
    ("format = \"xml\"", "log.format"),
];

#[test]
fn five_faults_are_told_with_their_lines_before_anything_opens() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, port) = (dir.path().join("data"), free_port());
    let [a, b, c, d, e] = FAULTY.map(|(line, _)| line);
    let text = format!(
        "data_dir = {data:?}\nseeds_dir = {:?}\n\n[broker]\n{a}\n{b}\n\n[journal]\n{c}\n\n[embedded]\n{d}\n\n[log]\n{e}\n\n\
         [http]\nlisten = \"127.0.0.1:{port}\"\n",
        seeds("")
    );
    let file = dir.path().join("gateway.toml");
    fs::write(&file, &text).expect("a file");
    // Held, so that a gateway that opens its port before it has read its file fails otherwise than by the file.
    let held = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");

    for command in ["run", "check"] {
        let output =
            command_of("hunhe-gateway").arg(command).arg("--config").arg(&file).output().expect("it runs");
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        let mut lines_found = 0;
        for (line, key) in FAULTY {
            let number = 1 + text.lines().position(|found| found == line).expect("it stands there");
            let place = format!("gateway.toml:{number}");
            let told = said.lines().filter(|said| said.contains(&place) && said.contains(key)).count();
            assert_eq!(told, 1, "{command}: {place} {key} in\n{said}");
            lines_found += told;
        }
        let faults = said.lines().filter(|said| said.contains("gateway.toml:")).count();
        assert_eq!((lines_found, faults), (5, 5), "{command}: {said}");
        assert!(!said.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{said}");
    }
    drop(held);
    let names: Vec<_> =
        fs::read_dir(dir.path()).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["gateway.toml"], "nothing else was made");
}
