//! A world: a real broker, a real hub and a real agent, with receivers that it hears and lines that can be bad.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    broker::{Ear, Twin, send},
    database,
    line::Line,
    oracle::Run,
    plan::{Fault, Kind, on_hub_line},
    preload::Turned,
    program::{Disk, Program, damage, free_port, is_defect},
    receiver::{Receivers, boot_ns, utc_ns},
    settings::Settings,
};

/// Of the gateway, in topics and in the database.
pub(crate) const GATEWAY: &str = "truck-7";
pub(crate) const PREFIX: &str = "campaign/v1";
/// The receivers a gateway may have; a change of sensors takes some of them in and others out.
pub(crate) const RECEIVERS: [&str; 3] = ["left", "right", "spare"];
/// Sizes of the disks, MiB: room for a minute's records and the ballast, soon filled.
const GATEWAY_DISK: u32 = 16;
const HUB_DISK: u32 = 24;
/// Room for two copies of what lies on the gateway's disk. In memory too: copying must not hold the agent up.
const IMAGES_DISK: u32 = 2 * GATEWAY_DISK;
/// How long a service manager waits before it starts a program again.
const RESTART: Duration = Duration::from_secs(1);
/// How long a stop may take; the agent's own limit is 15 s.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(20);
/// How long the agent may take for another configuration: a sensor that hangs, and the broker's goodbye.
const RELOAD_WITHIN: Duration = Duration::from_secs(20);
const DAY_NS: i64 = 86_400 * 1_000_000_000;
/// How long the kernel's clock is right before somebody vouches for it.
const VOUCH_AFTER: Duration = Duration::from_millis(50);

pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The programs and the library that worlds are made of.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) agent: PathBuf,
    pub(crate) hub: PathBuf,
    pub(crate) mosquitto: PathBuf,
    pub(crate) preload: PathBuf,
}

/// See the module.
pub(crate) struct World {
    folder: PathBuf,
    tools: Tools,
    broker_port: u16,
    http_ports: [u16; 2],
    broker: Program,
    hub: Program,
    second_hub: Program,
    agent: Program,
    gateway_line: Line,
    hub_line: Line,
    receivers: Receivers,
    turned: Turned,
    gateway_disk: Disk,
    hub_disk: Disk,
    _images: Disk,
    settings: Settings,
    ear: Ear,
    twin: Option<Twin>,
    lock: Option<rusqlite::Connection>,
    backups: Vec<PathBuf>,
    boot: u64,
    boot_off_ns: i64,
    /// When real time is right again, and then vouched for.
    clock_right_at: Option<Instant>,
    agent_again_at: Option<Instant>,
    hub_again_at: Option<Instant>,
    /// Runs of the agent so far.
    pub(crate) runs: Vec<Run>,
    /// Starts that a service manager would have made.
    pub(crate) restarts: usize,
    /// Ends that must not be.
    pub(crate) accidents: Vec<String>,
}

impl World {
    /// Starts all of it in `folder`.
    pub(crate) fn start(folder: &Path, tools: &Tools, seed: u64) -> Result<Self, Failed> {
        fs::create_dir_all(folder.join("broker"))?;
        let mut dice = fastrand::Rng::with_seed(seed);
        let [broker_port, gateway_port, hub_port, http, http_2] = std::array::from_fn(|_| free_port());
        let gateway_disk = Disk::new(folder.join("gateway-disk"), GATEWAY_DISK)?;
        let images = Disk::new(folder.join("images"), IMAGES_DISK)?;
        let mut world = Self {
            folder: folder.into(),
            tools: tools.clone(),
            broker_port,
            http_ports: [http, http_2],
            broker: Program::new("broker", folder),
            hub: Program::new("hub", folder),
            second_hub: Program::new("second-hub", folder),
            agent: Program::new("agent", folder),
            gateway_line: Line::start(gateway_port, broker_port)?,
            hub_line: Line::start(hub_port, broker_port)?,
            receivers: Receivers::start(&RECEIVERS, 1)?,
            turned: Turned::new(folder, &tools.preload, &gateway_disk.path)?,
            gateway_disk,
            _images: images,
            hub_disk: Disk::new(folder.join("hub-disk"), HUB_DISK)?,
            settings: Settings { receivers: vec![0, 1], encoding: "postcard", lazy_s: 0, ..Settings::drawn(&mut dice) },
            ear: Ear::start(broker_port, format!("{PREFIX}/{GATEWAY}/log")),
            twin: None,
            lock: None,
            backups: Vec::new(),
            boot: 1,
            boot_off_ns: 0,
            clock_right_at: None,
            agent_again_at: None,
            hub_again_at: None,
            runs: Vec::new(),
            restarts: 0,
            accidents: Vec::new(),
        };
        world.start_broker()?;
        world.write_hub_config("hub", 0)?;
        world.write_hub_config("second-hub", 1)?;
        world.start_hub()?;
        world.write_gateway_config()?;
        world.start_agent()?;
        Ok(world)
    }

    /// Everything that was said so far.
    pub(crate) fn said(&self) -> Vec<crate::receiver::Said> {
        self.receivers.said()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.hub_disk.path.join("hub.sqlite")
    }

    pub(crate) fn can_fill_disks(&self) -> bool {
        self.gateway_disk.can_be_filled() && self.hub_disk.can_be_filled()
    }

    pub(crate) fn clocks_are_turned(&self) -> bool {
        self.turned.active().unwrap_or(false)
    }

    fn start_broker(&mut self) -> Result<(), Failed> {
        let folder = self.folder.join("broker");
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             autosave_interval 3\nuser root\nlog_dest stderr\nlog_type error\nlog_type warning\nlog_type notice\n",
            self.broker_port,
            folder.display()
        );
        let file = folder.join("mosquitto.conf");
        fs::write(&file, config)?;
        self.broker.start(Command::new(&self.tools.mosquitto).arg("-c").arg(file))?;
        Ok(())
    }

    fn write_hub_config(&self, id: &str, which: usize) -> io::Result<()> {
        let config = format!(
            "[broker]\nurl = \"mqtt://127.0.0.1:{}\"\nclient-id = \"{id}\"\ntopic-prefix = \"{PREFIX}\"\n\
             [store]\npath = \"{}\"\n[http]\nlisten = \"127.0.0.1:{}\"\n",
            self.hub_line.port,
            self.database().display(),
            self.http_ports[which]
        );
        fs::write(self.folder.join(format!("{id}.toml")), config)
    }

    fn hub_command(&self, id: &str) -> Command {
        let mut command = Command::new(&self.tools.hub);
        command.args(["run", "--config"]).arg(self.folder.join(format!("{id}.toml")));
        command
    }

    fn start_hub(&mut self) -> io::Result<()> {
        self.hub_again_at = None;
        let mut command = self.hub_command("hub");
        self.hub.start(&mut command).map(drop)
    }

    fn write_gateway_config(&self) -> io::Result<()> {
        let config = self.settings.text(&self.gateway_disk.path, self.gateway_line.port, |at| self.receivers.port(at));
        fs::write(self.folder.join("gateway.toml"), config)
    }

    fn start_agent(&mut self) -> io::Result<()> {
        self.agent_again_at = None;
        self.receivers.empty()?;
        let mut command = Command::new(&self.tools.agent);
        command.args(["run", "--config"]).arg(self.folder.join("gateway.toml"));
        self.turned.load_into(&mut command);
        let process = self.agent.start(&mut command)?;
        let Settings { commit_every_ms, lazy_s, .. } = self.settings;
        // Where it is set, the one takes the place of the other.
        let commit_every_ns = if lazy_s > 0 { lazy_s * 1000 } else { commit_every_ms } as i64 * 1_000_000;
        self.runs.push(Run {
            boot: self.boot,
            boot_off_ns: self.boot_off_ns,
            commit_every_ns,
            lazy: lazy_s > 0,
            killed_ns: None,
        });
        self.receivers.speak_to(self.runs.len() - 1, process, &self.settings.receivers);
        Ok(())
    }

    fn kill_agent(&mut self) -> io::Result<()> {
        self.receivers.hush();
        self.agent_again_at = None;
        if let (true, Some(run)) = (self.agent.is_up(), self.runs.last_mut()) {
            run.killed_ns = Some(boot_ns());
        }
        self.agent.kill()
    }

    /// Asks the agent to stop; what it has heard by then has to be kept.
    fn stop_agent(&mut self) -> io::Result<()> {
        self.receivers.hush();
        self.agent_again_at = None;
        // What was said last is on its way into the agent.
        thread::sleep(Duration::from_millis(300));
        if let Err(accident) = self.agent.stop(STOP_WITHIN)? {
            self.accident(accident, "");
        }
        Ok(())
    }

    /// Has the running agent take other sensors and options. It goes on hearing those that stay, also meanwhile.
    fn reload(&mut self, dice: &mut fastrand::Rng) -> Result<(), Failed> {
        let new = self.settings.redrawn(dice);
        let old = std::mem::replace(&mut self.settings, new);
        if !self.agent.is_up() {
            return Ok(self.write_gateway_config()?);
        }
        if !self.agent.catches(Signal::HUP, RELOAD_WITHIN) {
            return Err("the agent does not catch SIGHUP".into());
        }
        if dice.u8(..3) == 0 {
            // A file that is wrong first, which must change nothing.
            fs::write(self.folder.join("gateway.toml"), "[gateway]\nid = \"somebody else\"\n")?;
            self.hang_up("the new configuration was refused")?;
        }
        let stay = old.same_as_in(&self.settings);
        let others: Vec<usize> = self.settings.receivers.iter().copied().filter(|at| !stay.contains(at)).collect();
        self.receivers.speak_only_to(&stay);
        // What was said last is on its way into the agent.
        thread::sleep(Duration::from_millis(300));
        self.receivers.forget(&others)?;
        self.write_gateway_config()?;
        self.hang_up("configuration reloaded")?;
        self.receivers.speak_also_to(&others);
        Ok(())
    }

    /// SIGHUP, and the agent's answer.
    fn hang_up(&mut self, answer: &str) -> Result<(), Failed> {
        let before = self.agent.said(answer);
        self.agent.signal(Signal::HUP)?;
        let until = Instant::now() + RELOAD_WITHIN;
        while self.agent.said(answer) == before {
            if Instant::now() > until {
                self.accident(format!("the agent did not say {answer:?}"), "");
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn accident(&mut self, what: String, words: &str) {
        self.accidents.push(if words.is_empty() { what } else { format!("{what}: {words}") });
    }

    /// Does what a service manager and a time server do. To be called often.
    pub(crate) fn tend(&mut self) -> Result<(), Failed> {
        if let Some(status) = self.agent.ended()? {
            self.receivers.hush();
            self.agent_again_at = Some(Instant::now() + RESTART);
            self.restarts += 1;
            if is_defect(status) {
                let words = self.agent.last_words();
                self.accident(format!("the agent ended by itself with {status}"), &words);
            }
        }
        if let Some(status) = self.hub.ended()? {
            self.hub_again_at = Some(Instant::now() + RESTART);
            self.restarts += 1;
            if is_defect(status) {
                let words = self.hub.last_words();
                self.accident(format!("the hub ended by itself with {status}"), &words);
            }
        }
        if let Some(status) = self.broker.ended()? {
            return Err(format!("the broker ended by itself with {status}: {}", self.broker.last_words()).into());
        }
        // A second hub that finds the database locked ends; the fault is then over early.
        let _ = self.second_hub.ended()?;
        let due = |at: Option<Instant>| at.is_some_and(|at| Instant::now() >= at);
        if due(self.agent_again_at) {
            self.start_agent()?;
        }
        if due(self.hub_again_at) {
            self.start_hub()?;
        }
        if due(self.clock_right_at) {
            self.right_the_clock()?;
        }
        Ok(())
    }

    /// Waits, and tends meanwhile.
    pub(crate) fn wait_until(&mut self, until: Instant) -> Result<(), Failed> {
        loop {
            self.tend()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// A time server has set the clock; a moment later the kernel says that it is vouched for.
    fn right_the_clock(&mut self) -> io::Result<()> {
        self.clock_right_at = None;
        self.turned.real_time(0, false)?;
        thread::sleep(VOUCH_AFTER);
        self.turned.real_time(0, true)
    }

    /// A clock that is off by hours or days, or that stands where boards without a battery begin.
    fn wrong_clock(&self, dice: &mut fastrand::Rng) -> io::Result<()> {
        let off_ns = match dice.u8(..6) {
            0 => -utc_ns() + DAY_NS,
            1 => dice.i64(-3_600..3_600) * 1_000_000_000,
            _ => dice.i64(-400 * DAY_NS..400 * DAY_NS),
        };
        self.turned.real_time(off_ns, false)
    }

    /// Copies the database as a nightly backup does.
    pub(crate) fn back_up(&mut self) -> Result<(), Failed> {
        let path = self.folder.join(format!("backup-{}.sqlite", self.backups.len()));
        let db = rusqlite::Connection::open(self.database())?;
        db.busy_timeout(Duration::from_secs(5))?;
        db.execute("VACUUM INTO ?", [path.display().to_string()])?;
        self.backups.push(path);
        Ok(())
    }

    fn restore(&mut self) -> Result<(), Failed> {
        let older = self.backups.len().saturating_sub(2);
        let Some(backup) = self.backups.get(older) else { return Ok(()) };
        let database = self.database();
        for behind in ["", "-wal", "-shm"] {
            let path = PathBuf::from(format!("{}{behind}", database.display()));
            if path.exists() {
                fs::remove_file(path)?;
            }
        }
        fs::copy(backup, database)?;
        Ok(())
    }

    fn line_of(&self, dice: u64) -> &Line {
        if on_hub_line(dice) { &self.hub_line } else { &self.gateway_line }
    }

    /// Makes a fault.
    pub(crate) fn begin(&mut self, fault: &Fault) -> Result<(), Failed> {
        let mut dice = fastrand::Rng::with_seed(fault.dice);
        match fault.kind {
            Kind::AgentKilled => self.kill_agent()?,
            Kind::AgentStopped => self.stop_agent()?,
            Kind::PowerCut => {
                self.kill_agent()?;
                self.turned.cut_power()?;
                // What the disk was filled with is the campaign's own, and may be in an image from when it was full.
                self.gateway_disk.free();
                self.boot += 1;
                // The new boot is some seconds old when the agent starts.
                self.boot_off_ns = dice.i64(3..60) * 1_000_000_000 - boot_ns();
                self.turned.boot(self.boot, self.boot_off_ns)?;
                self.wrong_clock(&mut dice)?;
                let vouched = fault.lasting + Duration::from_millis(dice.u64(500..8_000));
                self.clock_right_at = Some(Instant::now() + vouched);
            }
            Kind::SensorsChanged => {
                if dice.bool() {
                    self.kill_agent()?
                } else {
                    self.stop_agent()?
                }
                self.settings = Settings::drawn(&mut dice);
                self.write_gateway_config()?;
            }
            Kind::Reloaded => self.reload(&mut dice)?,
            Kind::SpoolFlipped | Kind::SpoolTruncated => {
                self.kill_agent()?;
                damage(&self.gateway_disk.path.join("spool"), fault.kind == Kind::SpoolTruncated, &mut dice)?;
            }
            Kind::SpoolFull => self.gateway_disk.fill()?,
            Kind::ClockStepped => {
                self.clock_right_at = None;
                self.wrong_clock(&mut dice)?;
            }
            Kind::Twin => self.twin = Some(Twin::start(self.broker_port, GATEWAY.into())),
            Kind::HubKilled => self.kill_hub()?,
            Kind::HubStalled => self.hub.signal(Signal::STOP)?,
            Kind::HubTwice => {
                let mut command = self.hub_command("second-hub");
                self.second_hub.start(&mut command)?;
            }
            Kind::DatabaseLocked => {
                let db = rusqlite::Connection::open(self.database())?;
                db.busy_timeout(Duration::from_secs(10))?;
                db.execute_batch("BEGIN EXCLUSIVE")?;
                self.lock = Some(db);
            }
            Kind::DatabaseFull => self.hub_disk.fill()?,
            Kind::DatabaseRestored => {
                self.kill_hub()?;
                self.restore()?;
            }
            Kind::BrokerKilled => self.broker.kill()?,
            Kind::BrokerWiped => {
                self.broker.kill()?;
                let _ = fs::remove_file(self.folder.join("broker/mosquitto.db"));
            }
            Kind::LineRefused => self.line_of(fault.dice).refuse(),
            Kind::LineSlow => {
                let latency = Duration::from_millis(dice.u64(20..400));
                self.line_of(fault.dice).slow(latency, dice.u64(2_000..60_000));
            }
            Kind::LineSilent => self.line_of(fault.dice).silence(),
            Kind::LineCut => self.line_of(fault.dice).cut_after(dice.u64(1..3_000)),
            Kind::Replayed => self.replay(&mut dice),
            Kind::Garbage => self.garbage(&mut dice),
        }
        Ok(())
    }

    /// Makes it good again.
    pub(crate) fn end(&mut self, fault: &Fault) -> Result<(), Failed> {
        match fault.kind {
            Kind::AgentKilled
            | Kind::AgentStopped
            | Kind::PowerCut
            | Kind::SensorsChanged
            | Kind::SpoolFlipped
            | Kind::SpoolTruncated => self.start_agent()?,
            Kind::SpoolFull => self.gateway_disk.free(),
            Kind::ClockStepped => self.right_the_clock()?,
            Kind::Twin => self.twin = None,
            Kind::HubKilled | Kind::DatabaseRestored => self.start_hub()?,
            Kind::HubStalled => self.hub.signal(Signal::CONT)?,
            Kind::HubTwice => self.second_hub.kill()?,
            Kind::DatabaseLocked => self.lock = None,
            Kind::DatabaseFull => self.hub_disk.free(),
            Kind::BrokerKilled | Kind::BrokerWiped => self.start_broker()?,
            Kind::LineRefused | Kind::LineSlow | Kind::LineCut => self.line_of(fault.dice).heal(false),
            // What the black hole has swallowed may come out again, or not.
            Kind::LineSilent => self.line_of(fault.dice).heal(fault.dice.is_multiple_of(2)),
            Kind::Reloaded | Kind::Replayed | Kind::Garbage => {}
        }
        Ok(())
    }

    fn kill_hub(&mut self) -> io::Result<()> {
        self.hub_again_at = None;
        self.hub.kill()
    }

    fn log_topic(&self) -> String {
        format!("{PREFIX}/{GATEWAY}/log")
    }

    /// Batches of the past come again, in any order.
    fn replay(&self, dice: &mut fastrand::Rng) {
        let mut heard = self.ear.heard();
        dice.shuffle(&mut heard);
        let again: Vec<_> = heard.into_iter().take(10).map(|batch| (self.log_topic(), batch)).collect();
        send(self.broker_port, false, &again);
    }

    /// Noise, and batches that were cut or bent on the way.
    fn garbage(&self, dice: &mut fastrand::Rng) {
        let mut messages = vec![(self.log_topic(), (0..dice.usize(1..200)).map(|_| dice.u8(..)).collect::<Vec<u8>>())];
        for mut batch in self.ear.heard().into_iter().rev().take(4) {
            if dice.bool() {
                batch.truncate(dice.usize(..batch.len().max(1)));
            } else if let Some(byte) = batch.iter_mut().last() {
                *byte ^= 1 << dice.u8(..8);
            }
            messages.push((self.log_topic(), batch));
        }
        send(self.broker_port, false, &messages);
    }

    /// Makes everything good: nothing is broken any more, and nobody is spoken to.
    pub(crate) fn heal(&mut self) -> Result<(), Failed> {
        self.receivers.hush();
        self.lock = None;
        self.twin = None;
        self.gateway_line.heal(false);
        self.hub_line.heal(false);
        self.right_the_clock()?;
        Ok(())
    }

    /// Stops the agent at the end of a round.
    pub(crate) fn finish(&mut self) -> Result<(), Failed> {
        self.stop_agent()?;
        Ok(())
    }

    /// From the next agent on, syncing does nothing. What was synced before is forgotten too.
    pub(crate) fn lie_about_syncing(&mut self) -> Result<(), Failed> {
        self.kill_agent()?;
        self.turned.let_sync_lie()?;
        self.turned.cut_power()?;
        Ok(self.start_agent()?)
    }

    /// From the next agent on, the broker's word counts for the hub's.
    pub(crate) fn believe_the_broker(&mut self) -> Result<(), Failed> {
        self.stop_agent()?;
        self.settings.confirm = "broker";
        self.write_gateway_config()?;
        Ok(self.start_agent()?)
    }

    /// What the broker says does not reach the gateway, which still reaches the broker.
    pub(crate) fn mute_the_hub_to_the_gateway(&self, muted: bool) {
        self.gateway_line.mute(muted);
    }

    /// The ledger's row of every log gets another name: what is stored stays, and nobody knows that it is.
    pub(crate) fn rename_the_log_in_the_ledger(&self) -> Result<(), Failed> {
        let db = rusqlite::Connection::open(self.database())?;
        db.execute("UPDATE ledger SET log = '00000000000000' || substr(log, 15)", [])?;
        Ok(())
    }

    /// What the hub has stored.
    pub(crate) fn contents(&self) -> Result<database::Contents, Failed> {
        database::read(&self.database())
    }

    /// Copies what lies on the small disks into the folder, so that it can be looked at when they are gone.
    pub(crate) fn keep_evidence(&self) {
        for disk in [&self.gateway_disk, &self.hub_disk] {
            let to = self.folder.join(format!("{}-kept", disk.path.file_name().unwrap_or_default().display()));
            let _ = Command::new("cp").arg("-r").arg(&disk.path).arg(to).output();
        }
    }
}
