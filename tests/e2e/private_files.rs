//! What the programs write tells who lives where and what they use: nobody but their own user reads it.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use hunhe_tests::{
    agent,
    broker::{Mosquitto, Saving},
    gateway::{Gateway, Setup},
    process::eventually,
    program,
    recording::Recording,
};

const WITHIN: Duration = Duration::from_secs(60);

/// Whoever starts a program may have any umask.
fn without_umask() -> Vec<String> {
    ["sh", "-c", "umask 0; exec \"$@\"", "sh"].map(Into::into).into()
}

/// Files and folders below, with their modes.
fn modes(dir: &Path, found: &mut Vec<(String, u32, bool)>) {
    let metadata = fs::metadata(dir).expect("it is there");
    found.push((dir.display().to_string(), metadata.permissions().mode() & 0o7777, metadata.is_dir()));
    if metadata.is_dir() {
        for entry in fs::read_dir(dir).expect("a folder") {
            modes(&entry.expect("an entry").path(), found);
        }
    }
}

#[test]
fn nothing_that_the_programs_write_is_open_to_others_whatever_the_umask() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut recording = Recording::read();
    recording.keep_devices(2);
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let list = dir.path().join("devices.csv");
    fs::write(&list, recording.device_list(agent::ID)).expect("a list");
    let setup = Setup::embedded(
        broker.gateway_port,
        format!("devices = [{list:?}]"),
        "[validate]\naccept_past = \"10y\"\n[embedded]\nretention = \"11y\"\n[checkpoint]\nevery_s = 1\n",
    );
    let mut gateway = Gateway::start_under(dir.path(), &setup, &[], &without_umask());
    let data = dir.path().join("gateway/data");
    let mut agent =
        agent::Agent::start_under(dir.path(), broker.port, &recording, 3_000, 1e9, &without_umask());
    let ended = agent.process.wait(WITHIN);
    assert!(ended.success(), "the agent ended with {ended}");
    gateway.await_settled(recording.samples, WITHIN);
    eventually(WITHIN, "a checkpoint is there", || {
        data.join("checkpoint/checkpoint-0").exists().then_some(())
    });

    let exports = dir.path().join("exports");
    let run = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(program("hunhe-gateway")).args(arguments);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
    };
    fs::create_dir(&exports).expect("a folder");
    fs::set_permissions(&exports, fs::Permissions::from_mode(0o700)).expect("a mode");
    let path = |name: &str| exports.join(name).display().to_string();
    let url = format!("http://127.0.0.1:{}", gateway.port);
    let configuration = gateway.configuration().display().to_string();
    run(&["backup", "--url", &url, "--to", &path("hunhe.backup")]);
    run(&["registry", "acl", "--config", &configuration, "--out", &path("hunhe-agents.acl")]);
    run(&["restore", "--from", &path("hunhe.backup"), "--data-dir", &path("restored")]);
    assert!(gateway.process.terminate(WITHIN).success());

    let mut found = Vec::new();
    for written in [&data, &dir.path().join("agent/outbox"), &exports] {
        modes(written, &mut found);
    }
    assert!(found.len() > 30, "{found:?}");
    for (path, mode, is_dir) in found {
        assert_eq!(mode, if is_dir { 0o700 } else { 0o600 }, "{path}: {mode:o}");
    }
}
