//! The main job in one process, on loopback, with nothing to install: an embedded broker, a simulated city and a real
//! recording, the gateway, the embedded store and the page.
//!
//! Event time goes a minute a second, and the whole process runs on that one virtual clock; the recording alone has a
//! pace of its own. A scenario makes things go wrong, and right again, within two minutes, and begins again every ten
//! minutes: whoever opens the page late sees incidents too. The embedded broker keeps nothing on disk and is for this
//! demonstration alone. Built with the feature `demo`; without it the command says so.

use crate::ops::cli::DemoOptions;
use std::process::ExitCode;

/// Runs the demonstration.
///
/// # Errors
/// What could not be started.
#[cfg(not(feature = "demo"))]
pub fn run(_: DemoOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this program was built without the demonstration: build it with --features demo")
}

#[cfg(feature = "demo")]
pub use city::run;

#[cfg(feature = "demo")]
mod city {
    use super::{DemoOptions, ExitCode};
    use crate::{
        api::{
            backend::Backend,
            queries::Answers,
            types::{Ledger, Status},
        },
        clock::Clock,
        decide::formats,
        run::{Extras, Gateway},
        setup::{config::Layers, registry},
    };
    use anyhow::Context;
    use hunhe_edge::{classes, drivers::replay, mqtt::Broker as EdgeBroker};
    use hunhe_fleet::{self as fleet, Options as FleetOptions, Past, scenario::Scenario};
    use hunhe_proto::fleet::Fleet;
    use include_dir::{Dir, include_dir};
    use std::{
        io::{IsTerminal, Write},
        net::SocketAddr,
        path::{Path, PathBuf},
        time::{Duration, Instant},
    };
    use tokio::sync::watch;

    /// Event seconds of the recording a second: a day.
    const RECORDING_SPEED: f64 = 86_400.0;
    /// How long the end may wait for what is still on its way.
    const DRAIN: Duration = Duration::from_secs(20);

    /// What the demonstration needs of `seeds`, built in: it runs in an empty folder.
    static SEEDS: [(&str, Dir<'_>); 5] = [
        ("classes", include_dir!("$CARGO_MANIFEST_DIR/../seeds/classes")),
        ("rules", include_dir!("$CARGO_MANIFEST_DIR/../seeds/rules")),
        ("city", include_dir!("$CARGO_MANIFEST_DIR/../seeds/city")),
        ("scenarios", include_dir!("$CARGO_MANIFEST_DIR/../seeds/scenarios")),
        ("recordings/dma", include_dir!("$CARGO_MANIFEST_DIR/../seeds/recordings/dma")),
    ];

    /// Runs the demonstration: see the module.
    ///
    /// # Errors
    /// What could not be started.
    pub fn run(options: DemoOptions) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let temporary = options.data_dir.is_none();
        let dir = options
            .data_dir
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(format!("hunhe-demo-{}", std::process::id())));
        let outcome = runtime.block_on(demonstrate(&options, &dir));
        if temporary {
            // Nothing in it outlives the demonstration; what cannot be removed is the system's to clean.
            let _ = std::fs::remove_dir_all(&dir);
        }
        outcome
    }

    async fn demonstrate(options: &DemoOptions, dir: &Path) -> anyhow::Result<ExitCode> {
        std::fs::create_dir_all(dir)?;
        let seeds = write_seeds(dir)?;
        let fleet = scaled_fleet(&seeds, options.devices)?;
        let scenario = scenario(&seeds, &options.scenario)?;
        let fleet_file = dir.join("fleet.toml");
        std::fs::write(&fleet_file, toml::to_string(&fleet)?)?;
        let broker = start_broker()?;
        let config = configuration(options, dir, &seeds, &fleet_file, broker)?;
        crate::ops::observe::start(&config.log)?;
        formats::check(&config.data_dir)?;
        let registry = registry::load(&config)?;

        let clock = match options.speed {
            1 => Clock::system(),
            speed => Clock::virtual_from(Clock::system().now_ms(), speed),
        };
        let city = city(options, &seeds, fleet, scenario, broker)?;
        fleet::check(&city).context("--scenario none and more --devices are ways out")?;
        let devices = registry.devices().len();
        let mut gateway = Gateway::start(config, registry, Extras { clock }).await?;
        say(&format!(
            "Hunhe 浑河: http://{}  ({devices} devices; Ctrl-C ends it / 按 Ctrl-C 结束)",
            gateway.address
        ));

        let answers = std::sync::Arc::clone(&gateway.answers);
        let (stop, stopped) = watch::channel(false);
        let city = FleetOptions {
            // At the clock's own speed devices say how old their samples are, and the gateway compares clocks.
            from_ms: (options.speed != 1).then(|| clock.now_ms()),
            ..city
        };
        let city = tokio::spawn(fleet::simulate(city, stopped));
        let ended = tokio::select! {
            error = gateway.failed() => Err(error),
            () = watch_city(&answers, options.run_for) => Ok(()),
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        stop.send_replace(true);
        let summary = city.await;
        ended?;
        let ledger = settle(&gateway).await?;
        gateway.stop().await?;
        let summary = summary?.context("the simulated city failed")?;
        report(options, &ledger, &summary)
    }

    /// Classes, rules, the city and its recording, as they were when this program was built, written below `dir`.
    fn write_seeds(dir: &Path) -> anyhow::Result<PathBuf> {
        let seeds = dir.join("seeds");
        for (name, folder) in &SEEDS {
            let into = seeds.join(name);
            std::fs::create_dir_all(&into)
                .and_then(|()| folder.extract(&into))
                .with_context(|| format!("cannot write {}", into.display()))?;
        }
        Ok(seeds)
    }

    /// The demonstration's fleet with so many simulated devices; those of the recording stay as they are.
    fn scaled_fleet(seeds: &Path, devices: u32) -> anyhow::Result<Fleet> {
        let path = seeds.join("city/demo.toml");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut fleet: Fleet = toml::from_str(&text)?;
        let replayed = |prefix: &str| matches!(prefix, "dma" | "weather");
        let simulated: u32 =
            fleet.groups.iter().filter(|group| !replayed(&group.prefix)).map(|group| group.count).sum();
        for group in fleet.groups.iter_mut().filter(|group| !replayed(&group.prefix)) {
            let share = u64::from(group.count) * u64::from(devices) / u64::from(simulated.max(1));
            group.count = u32::try_from(share.max(1))?;
        }
        Ok(fleet)
    }

    /// What goes wrong, by name.
    fn scenario(seeds: &Path, name: &str) -> anyhow::Result<Option<Scenario>> {
        if name == "none" {
            return Ok(None);
        }
        let dir = seeds.join("scenarios");
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        let path = dir.join(format!("{name}.toml"));
        anyhow::ensure!(
            plain && path.is_file(),
            "no scenario {name:?} in {}: name a file there, or none",
            dir.display()
        );
        Ok(Some(Scenario::read(&path)?))
    }

    /// On a free port of loopback, in memory, for this process alone.
    fn start_broker() -> anyhow::Result<SocketAddr> {
        let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let connections = rumqttd::ConnectionSettings {
            connection_timeout_ms: 10_000,
            max_payload_size: 256 * 1024,
            max_inflight_count: 1000,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        };
        let server = rumqttd::ServerSettings {
            name: "demo".into(),
            listen,
            tls: None,
            next_connection_delay_ms: 1,
            connections,
        };
        let router = rumqttd::RouterConfig {
            // One more would end the broker, and the city has a few dozen.
            max_connections: 10_000,
            max_outgoing_packet_count: 1000,
            max_segment_size: 100 << 20,
            max_segment_count: 10,
            ..Default::default()
        };
        let config = rumqttd::Config {
            router,
            v4: Some(std::iter::once(("demo".to_owned(), server)).collect()),
            ..Default::default()
        };
        std::thread::Builder::new().name("broker".into()).spawn(move || {
            if let Err(error) = rumqttd::Broker::new(config).start() {
                tracing::error!(%error, "the demonstration's broker ended");
            }
        })?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(listen).is_err() {
            anyhow::ensure!(
                Instant::now() < deadline,
                "the demonstration's broker does not answer on {listen}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(listen)
    }

    fn configuration(
        options: &DemoOptions,
        dir: &Path,
        seeds: &Path,
        fleet: &Path,
        broker: SocketAddr,
    ) -> anyhow::Result<crate::setup::config::Config> {
        let absolute = |path: &Path| std::path::absolute(path).map(|path| path.display().to_string());
        let set = [
            ("data_dir", absolute(dir)?),
            ("seeds_dir", absolute(seeds)?),
            ("registry.fleets", absolute(fleet)?),
            ("broker.host", broker.ip().to_string()),
            ("broker.port", broker.port().to_string()),
            ("http.listen", options.listen.to_string()),
            ("validate.accept_past", "10y".into()),
            ("embedded.retention", "11y".into()),
            ("log.level", "warn,rumqttd=off".into()),
        ];
        let set = set.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Ok(Layers { file: None, environment: Vec::new(), flags: set }.load()?.config)
    }

    fn city(
        options: &DemoOptions,
        seeds: &Path,
        fleet: Fleet,
        scenario: Option<Scenario>,
        broker: SocketAddr,
    ) -> anyhow::Result<FleetOptions> {
        let classes = classes::load(&seeds.join("classes"))?;
        let recording = replay::load(&seeds.join("recordings/dma"), &classes)?;
        let broker = EdgeBroker {
            host: broker.ip().to_string(),
            port: broker.port(),
            credentials: None,
            keep_alive_s: 30,
        };
        Ok(FleetOptions {
            fleet: Some(fleet),
            recording,
            speed: options.speed.into(),
            recording_speed: Some(RECORDING_SPEED),
            ahead: true,
            // The city was there before anybody looked.
            past: Past::Report,
            scenario,
            ..FleetOptions::new(classes, broker)
        })
    }

    /// A line a second until the time is over.
    async fn watch_city(answers: &Answers, run_for: Option<Duration>) {
        let began = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        let mut every = tokio::time::interval(Duration::from_secs(1));
        let mut seconds = 0_u64;
        while run_for.is_none_or(|run_for| began.elapsed() < run_for) {
            every.tick().await;
            seconds += 1;
            if let Ok(status) = answers.status().await
                && (terminal || seconds.is_multiple_of(5))
            {
                let line = summary_line(&status);
                let end = if terminal { '\r' } else { '\n' };
                // Nobody may be reading any more; the demonstration goes on.
                let _ = write!(std::io::stderr(), "{line}{end}");
            }
        }
        if terminal {
            let _ = writeln!(std::io::stderr());
        }
    }

    fn summary_line(status: &Status) -> String {
        let ledger = &status.ledger;
        let mark = if ledger.closed { "closed 账目已平 ✓" } else { "OPEN 账目未平 ✗" };
        format!(
            "{:>7.0} readings/s │ {} of {} devices │ sampled {} = stored {} + quarantined {} + lost {} + on the way {} │ ledger {mark}  ",
            status.readings_per_s,
            status.devices_reporting,
            status.devices_known,
            ledger.sampled,
            ledger.stored,
            ledger.quarantined,
            ledger.declared_lost,
            ledger.outstanding,
        )
    }

    /// Waits for what is still on its way.
    async fn settle(gateway: &Gateway) -> anyhow::Result<Ledger> {
        let deadline = Instant::now() + DRAIN;
        loop {
            let ledger = gateway.answers.ledger_now();
            if ledger.totals.outstanding == 0 || Instant::now() > deadline {
                return Ok(ledger);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn report(options: &DemoOptions, ledger: &Ledger, summary: &fleet::Summary) -> anyhow::Result<ExitCode> {
        let totals = &ledger.totals;
        // The city's own count is independent of the gateway's.
        let closed = totals.closed && totals.sampled == summary.sampled && totals.outstanding == 0;
        if options.json || options.run_for.is_some() {
            let mut json = serde_json::to_value(totals)?;
            json["closed"] = closed.into();
            json["sampled_by_the_city"] = summary.sampled.into();
            writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&json)?)?;
        }
        if !closed {
            say("the ledger does not close / 账目未平");
        }
        Ok(if closed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn say(line: &str) {
        // Standard error may be closed; that is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn the_build_script_watches_each_embedded_folder() {
            let script = include_str!("../build.rs");
            for (folder, _) in &super::SEEDS {
                assert!(script.contains(&format!("{folder:?}")), "{folder}");
            }
        }
    }
}
