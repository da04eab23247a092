//! What only a server can do to a hub: two hubs on one database, a server that goes, refuses or is not to be trusted.

mod rig;

use std::{sync::Arc, thread, time::Duration};

use rig::{postgres::Cluster, *};
use speedwell_hub::{
    ingest::decode::{Decoder, Message},
    store::{Done, Postgres, Reading, Readings, Store, StoreError, Work, writer},
};
use speedwell_wire::{Batch, Event, EventKind, Quality, Quantity, Record, frame};

fn open(url: &str) -> Postgres {
    Postgres::open(url, None, None).unwrap()
}

fn work(batch: &Batch) -> [Work; 2] {
    let mut decoder = Decoder::new(PREFIX, vec![manifest()]);
    let topic = format!("{PREFIX}/{}/log", batch.gateway);
    let Message::Store { work, .. } = decoder.read(&topic, &frame::encode(batch), 0) else { panic!() };
    [Work::Manifest(Arc::new(manifest())), work]
}

fn commit(store: &mut Postgres, batch: &Batch) -> Result<(u64, u32), StoreError> {
    match &store.commit(&work(batch))?[..] {
        [_, Done::Batch(done)] => Ok((done.thru, done.stored)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_two_hubs_given_the_same_batches_at_once_each_record_is_stored_by_one() {
    let url = Cluster::shared().database();
    let mut hubs = [open(&url), open(&url)];
    let stored: u32 = thread::scope(|scope| {
        let all = hubs.each_mut().map(|hub| {
            scope.spawn(move || {
                let mut stored = 0;
                // The ranges overlap, as those of a gateway that was told two things do.
                for first in 1..=100 {
                    for name in ["truck-7", "truck-8"] {
                        let batch = seconds(name, first..=first + 2);
                        // The loser of a race for a new row is told so, and tries again.
                        let (thru, new) = loop {
                            match commit(hub, &batch) {
                                Err(error) if matches!(error, StoreError::Locked) || error.is_of_the_data() => continue,
                                done => break done.unwrap(),
                            }
                        };
                        assert!(thru >= first + 2);
                        stored += new;
                    }
                }
                while hub.tend(3_600_000_000_000).unwrap() {}
                stored
            })
        });
        all.into_iter().map(|hub| hub.join().unwrap()).sum()
    });
    let counts = hubs[0].reader().counts().unwrap();
    assert_eq!((stored, counts.chunks, counts.samples), (204, 204, 204 * PER_RECORD));
}

#[test]
fn a_server_that_goes_away_delays_the_confirmation_and_loses_nothing() {
    let cluster = Cluster::start(&[]);
    let url = cluster.database();
    let store = open(&url);
    let reader = store.reader();
    assert_eq!(reader.counts().unwrap().chunks, 0);
    let writer::Writer { work: queue, mut done, trouble, thread, .. } = writer::start(store).unwrap();
    let send = |seq: u64| {
        for work in work(&seconds("truck-7", seq..=seq)) {
            queue.blocking_send((work, seq)).unwrap();
        }
    };
    (1..=5).for_each(send);
    (0..10).for_each(|_| drop(done.blocking_recv().unwrap()));
    cluster.down(true);
    (6..=10).for_each(send);
    let began = std::time::Instant::now();
    while trouble.borrow().is_none() {
        assert!(began.elapsed() < LONG, "nobody is told");
        thread::sleep(Duration::from_millis(20));
    }
    let told = trouble.borrow().clone().unwrap();
    assert!(told.contains("cannot be reached") && told.contains("127.0.0.1"), "{told}");
    assert!(matches!(reader.counts(), Err(StoreError::Unreachable { .. })));
    assert!(done.try_recv().is_err(), "nothing is confirmed");
    cluster.up();
    let mut thru = 0;
    for _ in 0..10 {
        if let (Done::Batch(committed), _) = done.blocking_recv().unwrap() {
            thru = committed.thru;
        }
    }
    assert_eq!((thru, trouble.borrow().clone()), (10, None));
    assert_eq!(
        reader.counts().unwrap().chunks,
        10,
        "what was confirmed before the crash is there, and what came in it"
    );
    drop(queue);
    thread.join().unwrap().unwrap();
}

#[test]
fn a_full_disk_and_a_read_only_database_are_told_apart_and_pass_without_loss() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let mut store = open(&url);
    commit(&mut store, &seconds("truck-7", 1..=1)).unwrap();
    // The server's own code for it, from where it says it.
    cluster.sql(
        &url,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON chunks FOR EACH ROW EXECUTE FUNCTION full_disk()",
    );
    let told = commit(&mut store, &seconds("truck-7", 2..=2)).unwrap_err();
    assert!(matches!(told, StoreError::Full), "{told}");
    cluster.sql(&url, "DROP TRIGGER full_disk ON chunks");
    let name = url.rsplit('/').next().unwrap();
    // As an operator does it: for all sessions that come, and those that are there are sent away.
    let away = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    cluster.sql("postgres", &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    cluster.sql("postgres", &away);
    let refused = |told: &StoreError| matches!(told, StoreError::ReadOnly);
    let sent_away = commit(&mut store, &seconds("truck-7", 2..=2)).unwrap_err();
    assert!(refused(&sent_away) || matches!(sent_away, StoreError::Unreachable { .. }), "{sent_away}");
    let told = commit(&mut store, &seconds("truck-7", 2..=2)).unwrap_err();
    assert!(refused(&told) && told.to_string().contains("primary"), "{told}");
    assert_eq!(store.reader().counts().unwrap().chunks, 1, "it can still be read");
    cluster.sql("postgres", &format!("ALTER DATABASE {name} RESET default_transaction_read_only"));
    cluster.sql("postgres", &away);
    let mut tries = 0;
    while let Err(told) = commit(&mut store, &seconds("truck-7", 2..=2)) {
        tries += 1;
        assert!(tries < 3, "{told}");
    }
    let counts = store.reader().counts().unwrap();
    assert_eq!((counts.chunks, counts.samples), (2, 2 * PER_RECORD));
}

#[test]
fn a_server_s_certificate_is_verified_name_and_all() {
    let cluster = Cluster::start(&[]);
    let url = cluster.database();
    let (key, certificate) = (cluster.data().join("server.key"), cluster.data().join("server.crt"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args([
            "-subj",
            "/CN=hub test",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=CA:FALSE",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // The server wants its key to be its own, or root's and readable by its group.
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(cluster.data()).unwrap());
    std::os::unix::fs::chown(&key, Some(owner), None).unwrap();
    cluster.sql("postgres", "ALTER SYSTEM SET ssl = on");
    cluster.down(false);
    cluster.up();
    let by_name = url.replace("127.0.0.1", "localhost") + "?sslmode=verify-full";
    let trusted = Postgres::open(&by_name, Some("unused"), Some(&certificate)).unwrap();
    assert_eq!(trusted.reader().counts().unwrap().chunks, 0);
    let told = |url: &str, ca| Postgres::open(url, None, ca).err().unwrap().to_string();
    let unknown = told(&by_name, None);
    assert!(unknown.contains("certificate") && unknown.contains("UnknownIssuer"), "{unknown}");
    let other = told(&(url.clone() + "?sslmode=require"), Some(certificate.as_path()));
    assert!(other.contains("not valid for") || other.contains("NotValidForName"), "{other}");
    // An address with a password in it is shown without.
    let gone = told("postgres://hub:s3cret@127.0.0.1:1/hub?password=s3cret", None);
    assert!(gone.contains("postgres://hub@127.0.0.1:1/hub") && !gone.contains("s3cret"), "{gone}");
}

#[tokio::test]
async fn a_hub_on_postgresql_confirms_what_a_gateway_sends_and_goes_on_after_a_restart() {
    let broker = Mosquitto::start();
    let url = Cluster::shared().database();
    let mut rig = HubRig::with(broker.url(), |config| config.store.url = Some(url.clone().try_into().unwrap())).await;
    rig.reaches("connected", 1).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&seconds("truck-7", 1..=3)).await;
    gateway.confirmed(3).await;
    rig.restart().await;
    rig.reaches("connected", 1).await;
    gateway.batch(&seconds("truck-7", 2..=5)).await;
    gateway.confirmed(5).await;
    assert_eq!(rig.hub().reader.counts().unwrap().samples, 5 * PER_RECORD);
    rig.stop().await;
}

#[test]
fn what_a_text_of_postgresql_cannot_hold_does_not_hold_up_what_comes_after_it() {
    let url = Cluster::shared().database();
    let mut store = open(&url);
    let event =
        Event { boot: 1, t_ns: 0, sensor: Some("fr\0nt".into()), kind: EventKind::Started, detail: "a\0b".into() };
    assert_eq!(commit(&mut store, &batch("truck-7", 1, [Record::Event(event), second(2)])).unwrap(), (2, 2));
}

#[test]
fn a_database_that_has_not_all_letters_and_one_that_is_another_s_are_refused_with_what_to_do() {
    let cluster = Cluster::shared();
    cluster.sql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0");
    cluster.sql("postgres", "CREATE ROLE guest LOGIN");
    let told = |user: &str, database: &str| {
        let url = format!("postgres://{user}@127.0.0.1:{}/{database}", cluster.port);
        Postgres::open(&url, None, None).err().unwrap().to_string()
    };
    let latin = told("speedwell", "latin");
    assert!(latin.contains("LATIN1") && latin.contains("ENCODING 'UTF8'"), "{latin}");
    let another_s = told("guest", cluster.database().rsplit('/').next().unwrap());
    assert!(another_s.contains("permission denied") && another_s.contains("CREATE on its schema"), "{another_s}");
}

#[test]
fn days_on_which_nothing_came_leave_no_partitions_behind() {
    const DAY: i64 = 24 * 3600 * 1_000_000_000;
    let (cluster, url) = (Cluster::shared(), Cluster::shared().database());
    let mut store = open(&url).keep_days(Some(3));
    for day in [20_000, 20_001, 20_010] {
        while store.tend(day * DAY).unwrap() {}
    }
    let sql = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class JOIN pg_inherits ON inhrelid = oid
        WHERE relkind = 'r'";
    let of = |table| format!("{table}_2024_10_14 {table}_2024_10_15 {table}_2024_10_16");
    assert_eq!(cluster.sql(&url, sql), format!("{} {} readings_other", of("chunks"), of("readings")));
}

#[test]
fn a_day_s_partition_may_take_long_to_make_and_nothing_else_may() {
    const DAY: i64 = 24 * 3600 * 1_000_000_000;
    let (cluster, url) = (Cluster::shared(), Cluster::shared().database());
    let mut store = open(&url);
    // The server writes down itself how long it would have waited: when the partition is attached, and for each reading.
    cluster.sql(
        &url,
        "CREATE TABLE waits (what text, within text);
         CREATE FUNCTION note_step() RETURNS event_trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO waits VALUES ('attach', current_setting('statement_timeout')); END $$;
         CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO waits VALUES ('row', current_setting('statement_timeout')); RETURN NEW; END $$;
         CREATE EVENT TRIGGER note_step ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION note_step();
         CREATE TRIGGER note_row BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION note_row()",
    );
    let waits = || {
        let sql = "SELECT string_agg(DISTINCT what || ' ' || within, ', ') FROM waits";
        let told = cluster.sql(&url, sql);
        cluster.sql(&url, "DELETE FROM waits");
        told
    };
    let reading = |day: i64| {
        let item = Reading {
            device: id("bike"),
            sensor: "wheel".into(),
            quantity: Quantity::Speed,
            utc_ns: day * DAY,
            value: 1.0,
            uncertainty: None,
            quality: Quality::Good,
        };
        let (source, received_ns) = ("http".into(), day * DAY);
        Work::Readings(Readings { source, key: None, digest: [0; 32], received_ns, items: vec![item] })
    };
    store.commit(&[reading(20_000)]).unwrap();
    assert_eq!(waits(), "attach 15min, row 30s", "in the midst of a commit");
    store.commit(&[reading(20_000)]).unwrap();
    store.tend(20_001 * DAY).unwrap();
    assert_eq!(waits(), "attach 15min, row 30s", "ahead of it");
}
