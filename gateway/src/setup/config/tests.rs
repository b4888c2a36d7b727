//! What the configuration promises its operators.

mod unread;

use std::fs;
use std::path::{Path, PathBuf};

use super::keys::{Key, Kind, Unwritten};
use super::schema::SECTIONS;
use super::{Config, Fault, Layers, Loaded, Place, sample};

/// A folder with seeds, and a configuration file in it.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("seeds/classes")).unwrap();
        fs::create_dir_all(dir.path().join("seeds/rules")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the file below two lines that every site needs.
    fn layers(&self, text: &str) -> Layers {
        let file = self.path("gateway.toml");
        fs::write(&file, format!("data_dir = \"data\"\nseeds_dir = \"seeds\"\n{text}")).unwrap();
        Layers { file: Some(file), ..Layers::default() }
    }

    fn loaded(&self, text: &str) -> Loaded {
        self.layers(text).load().unwrap()
    }

    fn faults(&self, text: &str) -> Vec<Fault> {
        self.layers(text).load().unwrap_err().list().to_vec()
    }
}

fn pairs(values: &[(&str, &str)]) -> Vec<(String, String)> {
    values.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn line(fault: &Fault) -> Option<usize> {
    match fault.place {
        Place::File { line, .. } => line,
        _ => None,
    }
}

/// (key, line) of each fault.
fn spots(faults: &[Fault]) -> Vec<(&str, Option<usize>)> {
    faults.iter().map(|fault| (fault.key.as_str(), line(fault))).collect()
}

fn files_below(dir: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        }
        let content = path.is_file().then(|| fs::read(&path).unwrap());
        found.push((path, content));
    }
    found.sort();
    found
}

#[test]
fn five_faults_of_five_kinds_are_five_faults_with_their_lines() {
    let site = Site::new();
    let text = r#"sink_of_record = "lake"

[broker]
hots = "10.0.0.1"
port = "1883"
keep_alive_s = 4

[registry]
fleets = ["nowhere.toml"]
"#;
    let layers = site.layers(text);
    let before = files_below(site.dir.path());
    let faults = layers.load().unwrap_err();
    assert_eq!(
        spots(faults.list()),
        [
            ("sink_of_record", Some(3)),
            ("broker.hots", Some(6)),
            ("broker.port", Some(7)),
            ("broker.keep_alive_s", Some(8)),
            ("registry.fleets", Some(11)),
        ]
    );
    let shown = faults.to_string();
    assert!(shown.starts_with("5 faults in the configuration"), "{shown}");
    for part in [
        "gateway.toml:3: sink_of_record: no sink is named \"lake\"; write one of \"embedded\"",
        "gateway.toml:6: broker.hots: there is no such key; did you mean host?",
        "gateway.toml:7: broker.port: is text; write a whole number from 1 to 65535",
        "gateway.toml:8: broker.keep_alive_s: 4 is out of range; write a whole number from 5 to 3600",
        "gateway.toml:11: registry.fleets: ",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(files_below(site.dir.path()), before, "loading changed something on disk");
}

#[test]
fn loading_a_sound_file_changes_nothing_on_disk() {
    let site = Site::new();
    let layers = site.layers("");
    let before = files_below(site.dir.path());
    layers.load().unwrap();
    assert_eq!(files_below(site.dir.path()), before);
    assert!(!site.path("data").exists());
}

#[test]
fn a_file_that_is_not_there_is_the_only_fault() {
    let site = Site::new();
    let layers = Layers { file: Some(site.path("none.toml")), ..Layers::default() };
    let faults = layers.load().unwrap_err();
    assert_eq!(faults.list().len(), 1, "{faults}");
    assert!(faults.to_string().contains("none.toml: cannot be read: "), "{faults}");
}

#[test]
fn faults_as_json_have_file_line_and_key_side_by_side() {
    let site = Site::new();
    let faults = serde_json::to_value(site.faults("[broker]\nport = 0")).unwrap();
    let expected = serde_json::json!([{
        "file": site.path("gateway.toml"), "line": 4, "key": "broker.port",
        "what": "0 is out of range", "remedy": "write a whole number from 1 to 65535"
    }]);
    assert_eq!(faults, expected);
}

/// A literal of a type that no key of that kind takes.
fn wrong_literal(kind: Kind) -> &'static str {
    match kind {
        Kind::Whole(..) => "1.5",
        Kind::Switch => "\"yes\"",
        Kind::SeedPaths | Kind::Hosts => "[1]",
        _ => "[true]",
    }
}

#[test]
fn every_key_with_a_wrong_type_names_its_line() {
    let site = Site::new();
    for section in SECTIONS {
        for Key { name, kind, .. } in section.keys {
            let file = site.path("gateway.toml");
            let wrong = wrong_literal(*kind);
            let (table, path) = match (section.name, section.list) {
                ("", _) => (String::new(), (*name).to_owned()),
                (table, true) => (format!("[[{table}]]\n"), format!("{table}[0].{name}")),
                (table, false) => (format!("[{table}]\n"), format!("{table}.{name}")),
            };
            fs::write(&file, format!("# one\n# two\n{table}{name} = {wrong}\n")).unwrap();
            let layers = Layers { file: Some(file), ..Layers::default() };
            let faults = layers.load().unwrap_err();
            let found = faults.list().iter().find(|fault| fault.key == path);
            let found = found.unwrap_or_else(|| panic!("{path} = {wrong}: {faults}"));
            assert_eq!(line(found), Some(if section.name.is_empty() { 3 } else { 4 }), "{found}");
            assert!(found.remedy.starts_with("write "), "{found}");
        }
    }
}

#[test]
fn each_kind_of_bad_value_is_told_apart() {
    let site = Site::new();
    for (text, key, what) in [
        ("[http]\nlisten = \"localhost\"", "http.listen", "is not an IP address with a port"),
        ("[http]\nunprotected = \"yes\"", "http.unprotected", "is none of the words known here"),
        (
            "[http]\nhosts = [\"a.example\", \"http://b\"]",
            "http.hosts",
            "an item of the list is not a host's name or address",
        ),
        ("[log]\nformat = \"xml\"", "log.format", "is none of the words known here"),
        ("[log]\nlevel = \"loud=very=much\"", "log.level", "is not a filter of log events"),
        ("[validate]\naccept_past = \"ten years\"", "validate.accept_past", "is not a length of time"),
        ("[validate]\naccept_past = 10", "validate.accept_past", "is a whole number"),
        ("[quarantine]\nlimit_age = \"1h\"", "quarantine.limit_age", "1h is out of range"),
        ("[broker]\nhost = \" \"", "broker.host", "is empty"),
        ("[broker]\nclient_id = \"a/b\"", "broker.client_id", "is not a plain name"),
        ("[broker]\nport = 99999999999999999999", "broker.port", "is a number beyond 64 bits"),
        ("[broker]\nport = 0", "broker.port", "0 is out of range"),
        ("[broker]\npacket_bytes_max = 10240", "broker.packet_bytes_max", "10240 is out of range"),
        ("[influx]\nurl = \"http://me:pw@db\"", "influx[0].url", "carries a user or password"),
        ("[influx]\nurl = \"https://db\"", "influx[0].url", "speaks https, not http"),
        ("[influx]\nurl = \"db:8086/write\"", "influx[0].url", "speaks db, not http"),
        ("[influx]\nurl = \"http://db/write?org=x\"", "influx[0].url", "carries a query or fragment"),
        ("[influx]\nname = \"main\"", "influx[0].url", "is missing"),
        ("[[webhook]]\nname = \"duty\"", "webhook[0].url", "is missing"),
        ("[alerts]\nlog_limit_bytes = 1", "alerts.log_limit_bytes", "1 is out of range"),
        ("broker = 3", "broker", "is not a table"),
    ] {
        let faults = site.faults(text);
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        assert_eq!((faults[0].key.as_str(), faults[0].what.as_str()), (key, what));
        assert!(line(&faults[0]).is_some(), "{faults:?}");
    }
}

#[test]
fn rules_about_several_keys_name_what_clashes() {
    let site = Site::new();
    for (text, key, at) in [
        ("[validate]\naccept_past = \"10y\"", "validate.accept_past", 4),
        ("[embedded]\nretention = \"44d\"", "embedded.retention", 4),
        ("[embedded]\nenabled = false", "embedded.enabled", 4),
        ("[embedded]\nenabled = false\n[influx]\nurl = \"http://db\"", "embedded.enabled", 4),
        ("[journal]\nlimit_bytes = 100_000_000", "journal.limit_bytes", 4),
        ("[decided]\nsegment_bytes = 0x4000_0000\nlimit_bytes = 0x8000_0000", "decided.limit_bytes", 5),
        ("[checkpoint]\nevery_journal_bytes = 8_000_000_000", "checkpoint.every_journal_bytes", 4),
        ("[[influx]]\nurl = \"http://a\"\n[[influx]]\nurl = \"http://b\"", "influx[1]", 5),
        ("[[influx]]\nname = \"embedded\"\nurl = \"http://a\"", "influx[0].name", 4),
        ("[[webhook]]\nurl = \"http://a\"\n[[webhook]]\nurl = \"http://b\"", "webhook[1]", 5),
        ("[[webhook]]\nname = \"mqtt\"\nurl = \"http://a\"", "webhook[0].name", 4),
        ("[[webhook]]\nurl = \"http://a\"\ntoken_file = \"none\"", "webhook[0].token_file", 5),
        ("[registry]\nclasses = \"none\"", "registry.classes", 4),
        ("[broker]\npassword_file = \"none\"", "broker.password_file", 4),
        ("[broker]\npassword_file = \"gateway.toml\"", "broker.password_file", 4),
    ] {
        assert_eq!(spots(&site.faults(text)), [(key, Some(at))], "{text}");
    }
}

#[test]
fn an_address_that_others_reach_is_refused_with_the_remedy_until_it_is_confirmed_in_words() {
    let site = Site::new();
    for listen in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080", "[::ffff:192.0.2.1]:8080"] {
        let text = format!("[http]\nlisten = \"{listen}\"");
        let faults = site.faults(&text);
        assert_eq!(spots(&faults), [("http.listen", Some(4))], "{text}");
        let remedy = &faults[0].remedy;
        assert!(remedy.contains("127.0.0.1:8080") && remedy.contains("http.unprotected"), "{remedy}");
        let confirmed =
            format!("{text}\nunprotected = \"anyone who reaches this port may read and change everything\"");
        site.layers(&confirmed).load().unwrap();
    }
    for listen in ["127.0.0.1:8080", "[::1]:8080", "127.9.9.9:8080", "[::ffff:127.0.0.1]:8080"] {
        site.layers(&format!("[http]\nlisten = \"{listen}\"")).load().unwrap();
    }
}

#[test]
fn a_rule_keeps_quiet_about_a_key_already_reported() {
    let site = Site::new();
    let faults = site.faults("[validate]\naccept_past = \"10y\"\n[embedded]\nretention = \"always\"");
    assert_eq!(spots(&faults), [("embedded.retention", Some(6))]);
}

#[test]
fn broken_lines_are_reported_beside_faults_of_sound_ones() {
    let site = Site::new();
    let faults = site.faults("[broker]\nport = \n[http]\nlisten = 5\nlisten = 6\n");
    let lines: Vec<_> = faults.iter().map(|fault| line(fault).unwrap()).collect();
    assert_eq!(lines, [4, 6, 7], "{faults:?}");
}

#[test]
fn an_unknown_key_is_an_error_that_says_what_was_meant() {
    let site = Site::new();
    for (text, key, remedy) in [
        ("[brokr]\nport = 1", "brokr", "did you mean broker?"),
        ("[broker]\nkeepalive_s = 3", "broker.keepalive_s", "did you mean keep_alive_s?"),
        ("[broker]\nlisten = 3", "broker.listen", "did you mean http.listen?"),
        ("[log]\ncolour = true", "log.colour", "remove it"),
    ] {
        let faults = site.faults(text);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!((faults[0].key.as_str(), faults[0].remedy.as_str()), (key, remedy));
    }
}

#[test]
fn each_layer_covers_the_one_below() {
    let site = Site::new();
    let mut layers = site.layers("");
    let port = |layers: &Layers| layers.load().unwrap().config.broker.port;
    assert_eq!(port(&layers), 1884);
    layers = site.layers("[broker]\nport = 1884");
    assert_eq!(port(&layers), 1884);
    layers.environment = pairs(&[("HUNHE_BROKER_PORT", "1885"), ("HUNHE_EMBEDDED_ENABLED", "true")]);
    assert_eq!(port(&layers), 1885);
    layers.flags = pairs(&[("broker.port", "1886"), ("registry.fleets", "")]);
    assert_eq!(port(&layers), 1886);
    let origins = layers.load().unwrap().origins;
    assert_eq!(origins["broker.port"], Place::Flag("--set broker.port".into()));
    assert_eq!(origins["embedded.enabled"], Place::Variable("HUNHE_EMBEDDED_ENABLED".into()));
}

#[test]
fn faults_of_variables_and_flags_name_them() {
    let site = Site::new();
    let mut layers = site.layers("");
    layers.environment = pairs(&[("HUNHE_BROKER_PORT", "many"), ("HUNHE_BROKER_PROT", "1")]);
    layers.flags = pairs(&[("log.format", "xml"), ("log.fromat", "json"), ("broker.password", "hush-hush")]);
    let shown = layers.load().unwrap_err().to_string();
    for part in [
        "environment variable HUNHE_BROKER_PORT: broker.port: is text; write a whole number from 1 to 65535",
        "environment variable HUNHE_BROKER_PROT: names no key; did you mean HUNHE_BROKER_PORT?",
        "flag --set log.format: log.format: is none of the words known here; write one of \"text\", \"json\"",
        "flag --set log.fromat: log.fromat: there is no such key; did you mean log.format?",
        "flag --set broker.password: broker.password: a secret does not belong here; ",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains("hush-hush"), "{shown}");
}

#[test]
fn no_two_keys_share_a_variable() {
    let mut names: Vec<_> = SECTIONS
        .iter()
        .flat_map(|section| {
            section.keys.iter().map(|key| format!("{}_{}", section.name, key.name).to_uppercase())
        })
        .collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn variables_reach_databases_by_name_and_a_single_one_without() {
    let site = Site::new();
    let mut layers = site.layers("[[influx]]\nname = \"main\"\nurl = \"http://a\"");
    layers.environment = pairs(&[("HUNHE_INFLUX_MAIN_TOKEN", "t-1"), ("HUNHE_INFLUX_URL", "http://b:1")]);
    let config = layers.load().unwrap().config;
    assert_eq!(config.influx[0].token.as_ref().unwrap().expose(), "t-1");
    assert_eq!(config.influx[0].url, "http://b:1");

    layers = site.layers(
        "[[influx]]\nname = \"a\"\nurl = \"http://a\"\n[[influx]]\nname = \"b-2\"\nurl = \"http://b\"",
    );
    layers.environment = pairs(&[("HUNHE_INFLUX_B_2_ORG", "city")]);
    let config = layers.load().unwrap().config;
    assert_eq!((config.influx[0].org.as_str(), config.influx[1].org.as_str()), ("hunhe", "city"));

    layers = site.layers("");
    layers.environment = pairs(&[("HUNHE_INFLUX_URL", "http://b:1")]);
    assert_eq!(layers.load().unwrap().config.influx.len(), 1);

    // Webhooks are counted on their own.
    layers = site.layers("[[influx]]\nurl = \"http://a\"\n[[webhook]]\nname = \"duty\"\nurl = \"http://c\"");
    layers.environment = pairs(&[("HUNHE_WEBHOOK_DUTY_TOKEN", "t-2"), ("HUNHE_INFLUX_ORG", "city")]);
    let config = layers.load().unwrap().config;
    assert_eq!(config.webhook[0].token.as_ref().unwrap().expose(), "t-2");
    assert_eq!((config.influx[0].org.as_str(), config.webhook.len()), ("city", 1));
}

#[test]
fn secrets_come_from_files_or_environment_and_are_never_shown() {
    let site = Site::new();
    fs::write(site.path("pw"), "from-the-file\n").unwrap();
    let text = "[broker]\nusername = \"g\"\npassword_file = \"pw\"\n[influx]\nurl = \"http://a\"";
    let mut layers = site.layers(text);
    layers.environment = pairs(&[("HUNHE_INFLUX_TOKEN", "from-the-environment")]);
    let loaded = layers.load().unwrap();
    assert_eq!(loaded.config.broker.password.as_ref().unwrap().expose(), "from-the-file");
    assert_eq!(loaded.config.influx[0].token.as_ref().unwrap().expose(), "from-the-environment");
    for shown in [loaded.to_toml(), format!("{loaded:?}"), serde_json::to_string(&loaded).unwrap()] {
        assert!(!shown.contains("from-the-file") && !shown.contains("from-the-environment"), "{shown}");
        assert!(shown.contains("password") && shown.contains("****"), "{shown}");
    }
    layers.environment.extend(pairs(&[("HUNHE_BROKER_PASSWORD", "stronger")]));
    assert_eq!(layers.load().unwrap().config.broker.password.unwrap().expose(), "stronger");

    let faults = site.faults("[broker]\nusername = \"g\"\npassword = \"hush-hush\"");
    assert_eq!(spots(&faults), [("broker.password", Some(5))]);
    assert!(!faults[0].to_string().contains("hush-hush"));
}

#[test]
fn what_is_shown_loads_again_to_the_same() {
    let site = Site::new();
    fs::write(site.path("seeds/f.toml"), "").unwrap();
    let text =
        "[registry]\nfleets = [\"f.toml\"]\n[[influx]]\nurl = \"http://a\"\nkind = \"victoriametrics\"";
    let loaded = site.loaded(text);
    let file = site.path("again.toml");
    fs::write(&file, loaded.to_toml()).unwrap();
    let again = Layers { file: Some(file), ..Layers::default() }.load().unwrap();
    assert_eq!(again.config, loaded.config);
    assert!(loaded.to_toml().contains("port = 1884  # default"), "{}", loaded.to_toml());
}

#[test]
fn relative_paths_start_at_the_file_and_seeds_at_the_seeds() {
    let site = Site::new();
    let config = site.loaded("").config;
    assert_eq!(config.data_dir, site.path("data"));
    assert_eq!(config.registry.classes, site.path("seeds/classes"));
}

#[test]
fn the_sample_in_deploy_says_every_key_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/hunhe-gateway.toml");
    let written = fs::read_to_string(path).unwrap();
    assert_eq!(written, sample(), "`hunhe-gateway check --sample` writes it anew");

    let site = Site::new();
    let seeds = site.path("seeds").display().to_string();
    let elsewhere = pairs(&[("seeds_dir", seeds.as_str())]);
    let load = |text: &str| -> Config {
        let file = site.path("sample.toml");
        fs::write(&file, text).unwrap();
        let layers = Layers { file: Some(file), flags: elsewhere.clone(), ..Layers::default() };
        layers.load().unwrap().config
    };
    assert_eq!(load(&written), load(""));

    // With every commented key switched on, all keys are there and known.
    let every: String = written
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with("[[") || rest.contains(" = ") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let table: toml::Table = every.parse().unwrap();
    for section in SECTIONS {
        for key in section.keys.iter().filter(|key| !matches!(key.kind, Kind::Secret)) {
            let found = match section.name {
                "" => table.get(key.name),
                name if section.list => table[name][0].get(key.name),
                name => table[name].get(key.name),
            };
            assert!(found.is_some(), "{}.{}", section.name, key.name);
            assert!(key.doc.len() > 10);
        }
    }
}

#[test]
fn every_default_and_example_is_of_its_own_kind() {
    for section in SECTIONS {
        for key in section.keys.iter().filter(|key| !matches!(key.kind, Kind::Secret)) {
            let (Unwritten::Is(text) | Unwritten::Absent(text) | Unwritten::Refused(text)) = key.unwritten;
            let value = toml::de::DeValue::parse(text).unwrap();
            assert!(
                key.kind.check(super::keys::RawValue::of(value.get_ref())).is_ok(),
                "{} = {text}",
                key.name
            );
        }
    }
}
