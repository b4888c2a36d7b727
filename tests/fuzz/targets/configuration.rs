//! Configuration of gateway and agent: a changed file gives a configuration, or faults that name a line which the file has.

use hunhe_fuzz::{Target, run};
use hunhe_gateway::setup::config::{Layers, Place};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

const WORDS: &[&[u8]] = &[
    b"[",
    b"]",
    b"[[",
    b" = ",
    b"\"",
    b"\"\"\"",
    b"'''",
    b"{",
    b"}",
    b"\n",
    b"#",
    b"-1",
    b"1e999",
    b"nan",
    b"true",
    b"'",
    b"99999999999999999999",
    b"0x",
    b"1979-05-27T07:32:00Z",
    b"\"40d\"",
    b"\"\\u0000\"",
    b"[influx]\n",
    b"[[influx]]\n",
    b"[broker]\n",
    b"password = \"secret\"\n",
    b"data_dir = \"data\"\n",
    b"[[devices]]\n",
];

/// As the agent's program with its simulator.
const KINDS: &[hunhe_edge::drivers::DriverKind] = &[hunhe_fleet::simulated::SIMULATED];

/// Where this process runs, until it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn enter(path: &Path) -> Self {
        let before = env::current_dir().unwrap();
        env::set_current_dir(path).unwrap();
        Self(before)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        env::set_current_dir(&self.0).unwrap();
    }
}

/// A line that the text has; 0 or none stands for the file as a whole.
fn line_is_there(line: usize, text: &[u8]) {
    let lines = 1 + text.iter().filter(|&&byte| byte == b'\n').count();
    assert!(line <= lines, "line {line} of {lines}");
}

#[test]
fn gateway_files_are_configurations_or_faults_by_line() {
    let _alone = crate::alone();
    let dir = crate::folder();
    for folder in ["seeds/classes", "seeds/rules"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    let file = dir.path().join("gateway.toml");
    let sample = hunhe_gateway::setup::config::sample();
    let bare: String =
        sample.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let small = "data_dir = \"data\"\nseeds_dir = \"seeds\"\nsink_of_record = \"main\"\n[registry]\nfleets = []\n\
                 [[influx]]\nname = \"main\"\nkind = \"influxdb2\"\nurl = \"http://127.0.0.1:1\"\n\
                 [[webhook]]\nname = \"duty\"\nurl = \"http://127.0.0.1:2/a\"\n[validate]\naccept_past = \"40d\"\n";
    let target = Target {
        words: WORDS,
        ..crate::target("gateway_config", vec![bare.into_bytes(), small.into()], 32 << 20)
    };
    let outcome = run(&target, |bytes| {
        fs::write(&file, bytes).unwrap();
        let layers = Layers { file: Some(file.clone()), ..Layers::default() };
        match layers.load() {
            Ok(loaded) => {
                // What is shown of it is a configuration's text as well.
                assert!(toml::from_str::<toml::Table>(&loaded.to_toml()).is_ok());
                true
            }
            Err(faults) => {
                assert!(!faults.list().is_empty());
                for fault in faults.list() {
                    match &fault.place {
                        Place::File { file: named, line } => {
                            assert_eq!(Path::new(named), file);
                            line_is_there(line.unwrap_or(0), bytes);
                        }
                        Place::Default => {}
                        other => panic!("{other} is none of the layers"),
                    }
                    assert!(!fault.what.is_empty(), "{fault}");
                }
                assert!(!faults.to_string().is_empty());
                false
            }
        }
    });
    crate::reached_both_sides(outcome);
}

#[test]
fn agent_files_are_configurations_or_faults_by_line() {
    let _alone = crate::alone();
    let dir = crate::folder();
    let file = dir.path().join("edge.toml");
    // Folders are named from where the agent runs: no input holds a path that another run does not have.
    let _there = Directory::enter(dir.path());
    let classes = dir.path().join("classes");
    fs::create_dir(&classes).unwrap();
    fs::copy(crate::seeds("classes/gas_meter.toml"), classes.join("gas_meter.toml")).unwrap();
    let starter = hunhe_edge::config::starter("c-1", "classes", "state", ("g-1", "gas_meter"), KINDS);
    let small = "agent = \"c-1\"\nclasses = \"classes\"\nstate_dir = \"state\"\n[broker]\nport = 1884\n\
                 [[devices]]\nid = \"g-1\"\nclass = \"gas_meter\"\ndriver = \"simulated\"\n";
    let target = Target {
        words: WORDS,
        ..crate::target("edge_config", vec![starter.into_bytes(), small.into()], 32 << 20)
    };
    let outcome = run(&target, |bytes| {
        fs::write(&file, bytes).unwrap();
        match hunhe_edge::config::Config::load(&file, &[], &[], KINDS) {
            Ok(config) => {
                assert!(toml::from_str::<toml::Table>(&config.show()).is_ok());
                true
            }
            Err(faults) => {
                assert!(!faults.0.is_empty());
                for fault in &faults.0 {
                    if Path::new(&fault.file) == file {
                        line_is_there(fault.line, bytes);
                    }
                    assert!(!fault.what.is_empty() && !fault.file.is_empty(), "{fault}");
                }
                false
            }
        }
    });
    crate::reached_both_sides(outcome);
}
