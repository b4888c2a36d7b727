//! What is asked of a database before the first write, by a sink and by `hunhe-gateway check`.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use clap::Parser;
use hunhe_gateway::{
    ops::cli::{Cli, Command, check},
    sinks::{
        influx::{
            Options,
            line_protocol::Dialect,
            setup::{self, Found, SetupError},
        },
        status::State,
    },
};

use crate::faults::{finish, options, start, totals};
use crate::fixture::{Log, hourly, registry};
use crate::server::{Reply, Request, Server, eventually, setup_answer};

pub(crate) fn ask(options: &Options) -> Result<Found, SetupError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(setup::ask(options))
}

/// InfluxDB 2 for the token `secret`, with that answer to each question for a path.
fn influxdb(path: &'static str, code: u16, body: &'static str) -> Server {
    Server::start_with_setup(move |_, request| {
        let asked = request.target.split('?').next().unwrap();
        if asked == path {
            Reply::status(code, body)
        } else if ["/ready", "/health"].contains(&asked)
            || request.authorization.as_deref() == Some("Token secret")
        {
            setup_answer(asked).map_or_else(|| Reply::status(204, ""), |body| Reply::status(200, body))
        } else {
            Reply::status(401, "unauthorized access")
        }
    })
}

#[test]
fn each_error_names_what_is_wrong_and_the_command_that_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let words = |server: &Server, change: fn(&mut Options)| {
        let mut options = options(dir.path(), &server.url());
        change(&mut options);
        ask(&options).unwrap_err().to_string().replace(&server.url(), "URL")
    };
    let sound = influxdb("", 0, "");
    assert_eq!(ask(&options(dir.path(), &sound.url())).unwrap().database, "influxdb 2.7.11");
    let refused = words(&sound, |options| options.token = "other".into());
    let expected = "influx auth create --host URL --org 'my org' --read-orgs --read-buckets --write-buckets";
    assert!(refused.contains("401 unauthorized access") && refused.contains(expected), "{refused}");

    let nowhere = influxdb("/api/v2/write", 404, "organization not found");
    let refused = words(&nowhere, |options| options.org = "nobody".into());
    let expected = "has no organisation \"nobody\"";
    assert!(refused.contains(expected) && refused.contains("influx org create --host URL --name nobody"));

    let failing = influxdb("/health", 503, r#"{"name":"influxdb","status":"fail","message":"starting"}"#);
    assert!(words(&failing, |_| ()).contains("not ready: starting"));
    let busy = influxdb("/api/v2/buckets", 503, "busy");
    assert!(words(&busy, |_| ()).contains("not ready: 503 busy"));
    let foreign = influxdb("/health", 200, "OK");
    assert!(words(&foreign, |_| ()).contains("is not InfluxDB 2"));
    assert!(
        words(&sound, |options| options.dialect = Dialect::Victoriametrics)
            .contains("is not VictoriaMetrics")
    );
    assert!(words(&sound, |options| options.url = "http://127.0.0.1:1".into()).contains("does not answer"));
    assert!(words(&sound, |options| options.url = "nonsense".into()).contains("is not http://host:port"));
}

#[test]
fn a_token_that_may_write_and_sees_nothing_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(1);
    let mut log = Log::new(dir.path(), &registry);
    log.append_rows(0, 1, 0, &hourly(1_767_225_600_000, 0, 24));
    let server =
        Server::start_with_setup(|_, request: &Request| match request.target.split('?').next().unwrap() {
            "/api/v2/write" if request.lines.is_empty() => Reply::status(400, "writing requires points"),
            "/api/v2/write" => Reply::status(204, ""),
            "/health" => Reply::status(200, setup_answer("/health").unwrap()),
            _ => Reply::status(404, "organization not found"),
        });
    let (handle, seen) = start(options(dir.path(), &server.url()), registry, &log);
    let status = handle.status();
    finish(handle, &log);
    assert_eq!(totals(&seen), (24, 24, 0));
    assert!(status.snapshot().warning.contains("retention cannot be seen"));
}

/// A proxy that lets through writes alone, and has a page for all else.
fn proxy(write: Reply) -> Server {
    Server::start_with_setup(move |_, request: &Request| {
        if request.target.starts_with("/api/v2/write") {
            write.clone()
        } else {
            Reply::status(200, "<html>welcome</html>")
        }
    })
}

#[test]
fn a_proxy_that_answers_questions_with_a_page_is_asked_to_write_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let before_influxdb = proxy(Reply::status(400, "writing requires points"));
    let found = ask(&options(dir.path(), &before_influxdb.url())).unwrap();
    assert!(found.warnings.iter().any(|warning| warning.contains("retention cannot be seen")), "{found:?}");
    for (code, body) in [(200, "<html>welcome</html>"), (204, ""), (404, "not found")] {
        let before_others = proxy(Reply::status(code, body));
        let error = ask(&options(dir.path(), &before_others.url())).unwrap_err();
        assert!(matches!(error, SetupError::Other { .. }), "{code}: {error}");
    }
}

#[test]
fn a_database_that_never_answers_delays_neither_start_nor_stop() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(1);
    let mut log = Log::new(dir.path(), &registry);
    log.append_rows(0, 1, 0, &hourly(1_767_225_600_000, 0, 24));
    let server = Server::start_with_setup(|_, _| Reply::Silence(Duration::from_secs(60)));
    let begun = Instant::now();
    let (handle, seen) = start(options(dir.path(), &server.url()), registry, &log);
    let status = handle.status();
    eventually("it asks", || !server.requests().is_empty());
    handle.stop();
    assert!(handle.join());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!((status.cursor().source_lsn, seen.lock().unwrap().len(), server.requests().len()), (0, 0, 1));
}

#[test]
fn a_database_that_comes_up_later_is_asked_again_and_only_then_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(1);
    let mut log = Log::new(dir.path(), &registry);
    log.append_rows(0, 1, 0, &hourly(1_767_225_600_000, 0, 24));
    let server = Server::start_with_setup(|n, request| {
        let asked = request.target.split('?').next().unwrap();
        match setup_answer(asked) {
            Some(_) if n < 3 => Reply::status(503, "starting"),
            Some(body) => Reply::status(200, body),
            None => Reply::status(204, ""),
        }
    });
    let (handle, seen) = start(options(dir.path(), &server.url()), registry, &log);
    let status = handle.status();
    eventually("it is tried again", || status.snapshot().state == State::Retrying);
    finish(handle, &log);
    assert_eq!(totals(&seen), (24, 24, 0));
    let targets: Vec<String> = server.requests().into_iter().map(|request| request.target).collect();
    let first_write = targets.iter().position(|target| target.starts_with("/api/v2/write")).unwrap();
    assert_eq!(first_write, 3 + 4, "readiness, health, organisation and bucket come first: {targets:?}");
}

fn checked(dir: &Path, urls: &[&str]) -> (u8, String) {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../seeds");
    let list = dir.join("list.csv");
    let text = "device,class,operator,district,zone,agent,lon,lat\n\
                det-1,gas_station_detector,gas,210102,s,,123.4,41.8\n";
    fs::write(&list, text).unwrap();
    let mut config =
        format!("data_dir = \"data\"\nseeds_dir = {seeds:?}\n[registry]\ndevices = [{list:?}]\n");
    for (n, url) in urls.iter().enumerate() {
        config +=
            &format!("[[influx]]\nname = \"db-{n}\"\nurl = \"{url}\"\norg = \"my org\"\nbucket = \"city\"\n");
    }
    let file = dir.join("gateway.toml");
    fs::write(&file, config).unwrap();
    let cli = Cli::parse_from(["hunhe-gateway", "check", "--config", file.to_str().unwrap()]);
    let Command::Check(options) = cli.command else { panic!("it is a check") };
    let mut out = Vec::new();
    let code = check(&options, &mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

#[test]
fn check_asks_every_database_and_fails_where_one_cannot_be_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| Reply::status(204, ""));
    let (code, said) = checked(dir.path(), &[&server.url()]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("database db-0 is ready: influxdb 2.7.11"), "{said}");
    let (code, said) = checked(dir.path(), &[&server.url(), "http://127.0.0.1:1"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("database db-1 is not ready") && said.contains("does not answer"), "{said}");
    assert!(!dir.path().join("data").exists(), "no file changes");
}
