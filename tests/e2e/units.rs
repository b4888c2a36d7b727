//! The service files: systemd takes every line, and never gives up starting a program that ends.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{fs, path::PathBuf, process::Command};

use hunhe_tests::project_dir;

const UNITS: [&str; 2] = ["hunhe-gateway.service", "hunhe-edge.service"];

fn unit(name: &str) -> String {
    fs::read_to_string(project_dir().join("deploy").join(name)).expect("a unit")
}

/// The lines of a section, without comments.
fn section(text: &str, name: &str) -> Vec<String> {
    let header = format!("[{name}]");
    let mut lines = text.lines().skip_while(|line| *line != header);
    lines.next();
    let lines = lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.starts_with('#'));
    lines.filter(|line| !line.is_empty()).map(Into::into).collect()
}

#[test]
fn a_unit_is_started_again_however_often_its_program_ends() {
    for name in UNITS {
        let text = unit(name);
        // In [Service] systemd would pass it over.
        assert!(section(&text, "Unit").contains(&"StartLimitIntervalSec=0".to_owned()), "{name}");
        let service = section(&text, "Service");
        assert!(
            service.iter().any(|line| line == "Restart=always" || line == "Restart=on-failure"),
            "{name}"
        );
        // Bad configuration is no reason to start again.
        assert!(service.contains(&"RestartPreventExitStatus=2".to_owned()), "{name}");
        // Which is said of the main process alone: what runs before it would be started again each second.
        let before =
            service.iter().find(|line| line.starts_with("ExecStartPre") || line.starts_with("ExecCondition"));
        assert_eq!(before, None, "{name}");
        assert!(service.iter().any(|line| line.starts_with("ExecStart=")), "{name}");
    }
}

/// `registry acl` replaces its file by another one, which a container that was given the first one alone never sees.
#[test]
fn the_broker_in_a_container_is_given_the_folder_of_its_lists_and_no_single_file() {
    let text = unit("compose.yaml");
    let lines = text.lines().map(str::trim);
    let mounts: Vec<&str> = lines.filter_map(|line| line.strip_prefix("- ./")).collect();
    assert!(mounts.contains(&"broker:/etc/mosquitto:ro"), "{mounts:?}");
    let files = ["acl", "passwd", "conf"];
    let single = mounts.iter().find(|mount| files.iter().any(|ending| mount.contains(&format!(".{ending}"))));
    assert_eq!(single, None);
}

#[test]
fn systemd_understands_every_line_of_the_units() {
    let dir = tempfile::tempdir().expect("a folder");
    let verify = |text: &str| {
        let path: PathBuf = dir.path().join("tested.service");
        fs::write(&path, text).expect("a unit");
        let output = Command::new("systemd-analyze").arg("verify").arg(&path).output().ok()?;
        Some(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for name in UNITS {
        // The programs are not installed where this runs.
        let text = unit(name)
            .replace("/usr/bin/hunhe-gateway", "/bin/true")
            .replace("/usr/bin/hunhe-edge", "/bin/true");
        let Some(said) = verify(&text) else {
            let must_be_here = ["CI", "TESTS_PREPARED"].iter().any(|name| std::env::var_os(name).is_some());
            assert!(!must_be_here, "systemd-analyze is missing: .ci/prepare installs it");
            println!("systemd-analyze is not here: its check is left out");
            return;
        };
        let about_us: Vec<&str> = said.lines().filter(|line| line.contains("tested.service")).collect();
        assert!(about_us.is_empty(), "{name}: {about_us:?}");
        let misspelt = verify(&text.replace("StartLimitIntervalSec", "StartLimitIntervallSec"));
        assert!(misspelt.is_some_and(|said| said.contains("StartLimitIntervallSec")), "it notices nothing");
    }
}
