//! Brokers that ask for TLS and passwords: what is accepted, and what a person reads when it is not.

mod rig;

use std::{path::Path, process::Command};

use rig::*;
use speedwell_hub::{BrokerUrl, Config};

fn run(dir: &Path, program: &str, args: &str) {
    let ran = Command::new(program).args(args.split_whitespace()).current_dir(dir).output().expect(program);
    assert!(ran.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Makes an authority `name.pem` with its key.
fn authority(dir: &Path, name: &str) {
    run(dir, "openssl", &format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"));
    run(dir, "openssl", &format!("req -x509 -new -key {name}.key -subj /CN={name} -days 30 -out {name}.pem"));
}

/// A broker with a certificate for `san` from the authority `ours`; there is another, `theirs`.
fn tls_broker(san: &str) -> Mosquitto {
    Mosquitto::with("allow_anonymous true\ncertfile DIR/broker.pem\nkeyfile DIR/broker.key", |dir| {
        authority(dir, "ours");
        authority(dir, "theirs");
        run(dir, "openssl", "ecparam -name prime256v1 -genkey -noout -out broker.key");
        run(dir, "openssl", "req -new -key broker.key -subj /CN=broker -out broker.csr");
        std::fs::write(dir.join("ext"), format!("subjectAltName={san}\nbasicConstraints=CA:FALSE\n")).unwrap();
        let sign = "x509 -req -in broker.csr -CA ours.pem -CAkey ours.key -CAcreateserial -days 30 -extfile ext -out broker.pem";
        run(dir, "openssl", sign);
    })
}

async fn tls_hub(broker: &Mosquitto, ca: Option<&str>) -> HubRig {
    let url = BrokerUrl { host: "localhost".into(), port: broker.port, tls: true };
    HubRig::with(url, |config| config.broker.ca_file = ca.map(|ca| broker.directory.path().join(ca))).await
}

/// What `/healthz` says of the broker once something is known.
async fn told(rig: &HubRig) -> String {
    rig.reaches("failures", 1).await;
    assert_eq!(rig.counter("connections"), 0);
    let health = http::get(rig.hub().http, "/healthz").await;
    assert_eq!(health["status"], "trouble");
    health["broker"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_certificate_is_of_the_authority_that_is_named_is_accepted() {
    let broker = tls_broker("DNS:localhost");
    let rig = tls_hub(&broker, Some("ours.pem")).await;
    rig.reaches("connected", 1).await;
    let health = http::get(rig.hub().http, "/healthz").await;
    assert_eq!((&health["status"], &health["broker"]), (&"ok".into(), &"ok".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_or_for_another_name_is_refused_and_told_as_such() {
    let broker = tls_broker("DNS:localhost");
    for ca in [Some("theirs.pem"), None] {
        let why = told(&tls_hub(&broker, ca).await).await;
        assert!(why.contains("no authority that is trusted here has signed it; see ca-file"), "{why}");
    }
    let broker = tls_broker("DNS:broker.example");
    let why = told(&tls_hub(&broker, Some("ours.pem")).await).await;
    assert!(why.contains("not for \"localhost\" but for") && why.contains("broker.example"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_out_of_a_file_is_accepted_and_a_wrong_one_told() {
    let broker = Mosquitto::with("allow_anonymous false\npassword_file DIR/users", |dir| {
        run(dir, "mosquitto_passwd", "-c -b users hub secret");
    });
    let file = broker.directory.path().join("password");
    let login = |config: &mut Config| {
        config.broker.user = Some("hub".into());
        config.broker.password_file = Some(file.display().to_string());
    };
    std::fs::write(&file, "secret\n").unwrap();
    HubRig::with(broker.url(), login).await.reaches("connected", 1).await;
    std::fs::write(&file, "guess\n").unwrap();
    let why = told(&HubRig::with(broker.url(), login).await).await;
    assert_eq!(why, "the broker refuses the user or the password; see user and password-file in [broker]");
}
