//! What an operator's monitoring asks for: the Prometheus text format, version 0.0.4.
//!
//! In      numbers from everywhere, at the time they are asked for.
//! Out     a page of text. No line of it is of one gateway: there may be ten thousand of them.
//! Keeps   two histograms, and how many queries are under way.
//! Imports `ingest` (its counters), `live` (its totals).
//!
//! By hand: the format is a line a number, and a library of it would bring a registry that nobody needs.

use std::{
    fmt::Write,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::mpsc;

use crate::{ingest::Counters, live::Totals};

/// Of the answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A commit is one fsync: a millisecond on a good disk, seconds on one that is dying.
const COMMIT_BOUNDS_S: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// An answer from memory up to one that reads all it may.
const QUERY_BOUNDS_S: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// How often something took how long.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: what took longer than the last.
    counts: Vec<AtomicU64>,
    sum_ns: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_ns: AtomicU64::new(0) }
    }

    /// For commits of the store.
    pub fn of_commits() -> Self {
        Self::new(&COMMIT_BOUNDS_S)
    }

    /// It took so long once.
    pub fn observe(&self, took: Duration) {
        let at = self.bounds.partition_point(|&bound| bound < took.as_secs_f64());
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// What is counted for the page alone. Cheap to share.
#[derive(Clone)]
pub struct Metrics {
    commits: Arc<Histogram>,
    /// Pieces of work that wait for the store, and that may.
    queue: Arc<dyn Fn() -> (u64, u64) + Send + Sync>,
    queries: Arc<Histogram>,
    in_flight: Arc<AtomicU64>,
}

/// A query that is under way. It is over when this is dropped.
pub struct Query {
    metrics: Metrics,
    began: Instant,
}

impl Metrics {
    /// With the histogram that the store's thread fills, and the way to it, which this does not keep open.
    pub fn new<T: Send + 'static>(commits: Arc<Histogram>, work: &mpsc::Sender<T>) -> Self {
        let (work, limit) = (work.downgrade(), work.max_capacity() as u64);
        let fill = move || work.upgrade().map_or(0, |work| limit - work.capacity() as u64);
        Self { commits, queue: Arc::new(move || (fill(), limit)), ..Self::default() }
    }

    /// A query begins.
    pub fn query(&self) -> Query {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Query { metrics: self.clone(), began: Instant::now() }
    }
}

impl Default for Metrics {
    /// Of a hub without a store.
    fn default() -> Self {
        Self {
            commits: Arc::new(Histogram::of_commits()),
            queue: Arc::new(|| (0, 0)),
            queries: Arc::new(Histogram::new(&QUERY_BOUNDS_S)),
            in_flight: Arc::default(),
        }
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.metrics.queries.observe(self.began.elapsed());
    }
}

/// What is asked elsewhere when the page is.
#[derive(Debug)]
pub struct Now<'a> {
    /// What was taken.
    pub counters: &'a Counters,
    /// How gateways are.
    pub totals: Totals,
    /// Whether the store works.
    pub storing: bool,
    /// Bytes of the database; absent when it could not be asked.
    pub store_bytes: Option<u64>,
    /// Clients that watch.
    pub watchers: u64,
}

impl Metrics {
    /// The page.
    pub fn page(&self, now: &Now<'_>) -> String {
        let mut page = Page(String::with_capacity(8 * 1024));
        page.one("speedwell_hub_build_info", GAUGE, "Version of the hub; always 1.", &[("version", VERSION)], 1.0);
        self.ingest(&mut page, now.counters);
        page.histogram("speedwell_hub_commit_duration_seconds", "Commits of the store that succeeded.", &self.commits);
        let plain = |page: &mut Page, name, help, value: u64| page.one(name, GAUGE, help, &[], value as f64);
        plain(&mut page, "speedwell_hub_store_up", "1 while the store takes what comes, else 0.", now.storing.into());
        let (waiting, limit) = (self.queue)();
        plain(&mut page, "speedwell_hub_store_queue_length", "Pieces of work that wait for the store.", waiting);
        plain(&mut page, "speedwell_hub_store_queue_limit", "Pieces of work that may wait for it.", limit);
        if let Some(bytes) = now.store_bytes {
            plain(&mut page, "speedwell_hub_store_size_bytes", "What the database takes on its disk.", bytes);
        }
        page.family("speedwell_hub_gateways", GAUGE, "Gateways known, by how they are connected.");
        for (state, n) in now.totals.by_connection() {
            page.sample("speedwell_hub_gateways", &[("state", state)], n as f64);
        }
        let help = "Records that gateways said they have and this hub has not, of all of them together.";
        plain(&mut page, "speedwell_hub_unconfirmed_records", help, now.totals.behind);
        plain(&mut page, "speedwell_hub_watchers", "Clients that watch newest values.", now.watchers);
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        plain(&mut page, "speedwell_hub_queries_in_flight", "Queries under way.", in_flight);
        page.histogram("speedwell_hub_query_duration_seconds", "Answers to GET under /api/v1.", &self.queries);
        process(&mut page);
        page.0
    }

    fn ingest(&self, page: &mut Page, counters: &Counters) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let c = counters;
        page.one("speedwell_hub_broker_up", GAUGE, "1 while connected to the broker, else 0.", &[], get(&c.connected));
        let families: [Family<'_>; 9] = [
            ("broker_connections", "Connections to the broker made.", &[("", &c.connections)]),
            ("broker_failures", "Connections lost, and attempts that came to nothing.", &[("", &c.failures)]),
            ("messages", "Messages of gateways taken.", &[("", &c.messages)]),
            (
                "records",
                "Entries of batches, by what became of them.",
                &[("stored", &c.stored), ("duplicate", &c.duplicates), ("dropped", &c.dropped)],
            ),
            ("payloads_rejected", "Payloads set aside because they could not be used.", &[("", &c.rejected)]),
            ("live_unread", "Live messages that could not be shown.", &[("", &c.live_unread)]),
            (
                "readings",
                "Single readings, by what became of them.",
                &[("stored", &c.readings), ("duplicate", &c.readings_again)],
            ),
            ("requests_turned_away", "Requests told to come again.", &[("", &c.turned_away)]),
            ("store_refused", "Pieces of work that the database refused.", &[("", &c.refused_by_store)]),
        ];
        for (name, help, samples) in families {
            let name = format!("speedwell_hub_{name}_total");
            page.family(&name, COUNTER, help);
            for (outcome, counter) in samples {
                let label = [("outcome", *outcome)];
                page.sample(&name, if outcome.is_empty() { &[] } else { &label }, get(counter));
            }
        }
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// Name, help, and the counters by outcome.
type Family<'a> = (&'a str, &'a str, &'a [(&'a str, &'a AtomicU64)]);

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// The labels' values are words of ours: nothing in them needs to be escaped.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
            let _ = write!(self.0, "{{{}}}", labels.join(","));
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.family(name, kind, help);
        self.sample(name, labels, value);
    }

    fn histogram(&mut self, name: &str, help: &str, of: &Histogram) {
        self.family(name, "histogram", help);
        let (bucket, mut sum) = (format!("{name}_bucket"), 0);
        let bounds = of.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&of.counts) {
            sum += count.load(Ordering::Relaxed);
            self.sample(&bucket, &[("le", &bound)], sum as f64);
        }
        self.sample(&format!("{name}_sum"), &[], of.sum_ns.load(Ordering::Relaxed) as f64 / 1e9);
        // The sum of the buckets, and not a counter of its own: another thread may be between the two.
        self.sample(&format!("{name}_count"), &[], sum as f64);
    }
}

/// What every program's page has, under the names that all use. What cannot be read is left out.
fn process(page: &mut Page) {
    let (help, name) = ("Resident memory.", "process_resident_memory_bytes");
    if let Some(bytes) = resident_bytes() {
        page.one(name, GAUGE, help, &[], bytes as f64);
    }
    if let Some(seconds) = cpu_seconds() {
        page.one("process_cpu_seconds_total", COUNTER, "Processor time, user and system.", &[], seconds);
    }
    if let Some(began) = began() {
        page.one("process_start_time_seconds", GAUGE, "When it started, UTC since 1970.", &[], began);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        page.one("process_open_fds", GAUGE, "Open files.", &[], files.count() as f64);
    }
}

fn resident_bytes() -> Option<u64> {
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: asks for a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

fn cpu_seconds() -> Option<f64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours to be written to.
    let known = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) } == 0;
    known.then(|| time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// The start is told in ticks since boot, after the name in brackets, which may hold anything (proc(5)).
fn began() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: f64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    // SAFETY: asks for a constant of the system.
    let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let mut up = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `up` is ours to be written to.
    let known = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut up) } == 0;
    let up = up.tv_sec as f64 + up.tv_nsec as f64 / 1e9;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    (known && a_second > 0.0).then(|| now - up + ticks / a_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_took_just_as_long_as_a_bound_within_it() {
        let of = Histogram::of_commits();
        for ms in [0, 1, 2, 10, 99_999] {
            of.observe(Duration::from_millis(ms));
        }
        let mut page = Page(String::new());
        page.histogram("x_seconds", "X.", &of);
        assert!(page.0.starts_with("# HELP x_seconds X.\n# TYPE x_seconds histogram\n"), "{}", page.0);
        for line in ["{le=\"0.001\"} 2", "{le=\"0.0025\"} 3", "{le=\"0.005\"} 3", "{le=\"10\"} 4", "{le=\"+Inf\"} 5"] {
            assert!(page.0.contains(&format!("x_seconds_bucket{line}\n")), "{line} in {}", page.0);
        }
        assert!(page.0.ends_with("x_seconds_sum 100.012\nx_seconds_count 5\n"), "{}", page.0);
    }
}
