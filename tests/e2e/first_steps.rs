//! What a newcomer sees whose machine lacks a tool: its name and where it comes from.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use hunhe_tests::project_dir;
use std::{os::unix::fs::symlink, path::Path, process::Command};

/// The first program of that name on this machine's path.
fn program(name: &str) -> std::path::PathBuf {
    let path = std::env::var_os("PATH").expect("a path");
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file()).expect(name)
}

/// What `make` says, and whether it works, where these programs are all there is.
fn make(target: &str, there: &[&str]) -> (bool, String) {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["make", "sh", "env"].iter().chain(there) {
        // A toolchain that is only named by its shim would look for itself by its name.
        let found =
            if *name == "cargo" || *name == "npm" { Path::new("/bin/true").into() } else { program(name) };
        symlink(found, dir.path().join(name)).expect("a link");
    }
    let output = Command::new(program("make"))
        .arg("--no-print-directory")
        .arg(target)
        .current_dir(project_dir())
        .env("PATH", dir.path())
        .env_remove("CARGO")
        .env_remove("MAKEFLAGS")
        .output()
        .expect("make runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_missing_tool_is_named_with_where_it_comes_from() {
    for target in ["demo", "test"] {
        let (worked, said) = make(target, &[]);
        assert!(
            !worked && said.contains("cargo is missing") && said.contains("rustup.rs"),
            "{target}: {said}"
        );
    }
    let (worked, said) = make("tools", &["cargo"]);
    assert!(worked && said.contains("npm is missing") && said.contains("nodejs.org"), "{said}");
    let (worked, said) = make("tools", &["cargo", "npm"]);
    assert!(worked && !said.contains("missing"), "{said}");
}
