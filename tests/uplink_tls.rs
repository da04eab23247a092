//! TLS to a real mosquitto, with an authority made for the test: what is accepted, and what a technician reads when it
//! is not.

mod broker;
mod gateway;

use std::{path::Path, process::Command};

use broker::{Broker, Hub, installed};
use gateway::Gateway;
use speedwell::uplink::{
    Fault, Link, Tls,
    fault::{CertificateTrouble, Refusal},
};

/// Runs openssl in `dir`.
fn openssl(dir: &Path, args: &str) {
    let ran = Command::new("openssl").args(args.split_whitespace()).current_dir(dir).output().expect("openssl runs");
    assert!(ran.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Makes an authority `name.pem` with its key.
fn authority(dir: &Path, name: &str) {
    openssl(dir, "ecparam -name prime256v1 -genkey -noout -out tmp.key");
    openssl(dir, &format!("pkcs8 -topk8 -nocrypt -in tmp.key -out {name}.key"));
    openssl(dir, &format!("req -x509 -new -key {name}.key -subj /CN={name} -days 30 -out {name}.pem"));
}

/// Makes a certificate `name.pem` for `san`, signed by `authority`, good for `days` (less than none: expired).
fn certificate(dir: &Path, authority: &str, name: &str, san: &str, days: i64) {
    openssl(dir, "ecparam -name prime256v1 -genkey -noout -out tmp.key");
    openssl(dir, &format!("pkcs8 -topk8 -nocrypt -in tmp.key -out {name}.key"));
    openssl(dir, &format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
    std::fs::write(dir.join("ext"), format!("subjectAltName={san}\nbasicConstraints=CA:FALSE\n")).unwrap();
    let sign = format!(
        "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days {days} -extfile ext -out {name}.pem"
    );
    openssl(dir, &sign);
}

/// A broker with a certificate for `san`, good for `days`, and more lines in its configuration.
fn tls_broker(san: &str, days: i64, lines: &str) -> Broker {
    let config = format!("allow_anonymous true\ncertfile DIR/broker.pem\nkeyfile DIR/broker.key\n{lines}");
    Broker::with(&config, |dir| {
        authority(dir, "ours");
        authority(dir, "theirs");
        certificate(dir, "ours", "broker", san, days);
        certificate(dir, "ours", "truck", "DNS:truck-7", 30);
    })
}

/// A gateway that trusts `ca` of the broker's directory.
fn gateway(broker: &Broker, ca: &str, change: impl FnOnce(&mut Tls, &Path)) -> Gateway {
    let dir = broker.directory.path();
    let mut tls = Tls { ca_file: Some(dir.join(ca)), ..Tls::default() };
    change(&mut tls, dir);
    Gateway::new(broker.port, |o| (o.host, o.tls) = ("localhost".into(), Some(tls)))
}

fn trouble(fault: &Fault) -> &CertificateTrouble {
    match fault {
        Fault::Certificate { trouble, .. } => trouble,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn records_go_through_tls_with_an_authority_of_one_s_own() {
    if !installed() {
        return;
    }
    let broker = tls_broker("DNS:localhost", 30, "");
    let mut gateway = gateway(&broker, "ours.pem", |_, _| {});
    gateway.options.confirm = speedwell::uplink::Confirmation::Broker;
    gateway.append(100).await;
    gateway.start();
    gateway.until("all freed", |s| s.confirmed == 100).await;
}

/// A TLS broker that speaks these versions and no others.
fn broker_of(least: &str, most: &str) -> Broker {
    let config = "allow_anonymous true\ncertfile DIR/broker.pem\nkeyfile DIR/broker.key\n";
    Broker::with(config, |dir| {
        authority(dir, "ours");
        certificate(dir, "ours", "broker", "DNS:localhost", 30);
        let versions = format!(
            "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMinProtocol = {least}\n\
             MaxProtocol = {most}\nCipherString = ALL:@SECLEVEL=0\n"
        );
        std::fs::write(dir.join("openssl.cnf"), versions).unwrap();
    })
}

/// Whether it takes a client that speaks this version only.
fn handshakes(broker: &Broker, version: &str) -> bool {
    let mut client = Command::new("openssl");
    client.args(["s_client", version, "-brief", "-connect", &format!("localhost:{}", broker.port)]);
    client.stdin(std::process::Stdio::null()).output().expect("openssl runs").status.success()
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken_and_an_older_one_is_not() {
    if !installed() {
        return;
    }
    for version in ["TLSv1.2", "TLSv1.3"] {
        let broker = broker_of(version, version);
        let mut gateway = gateway(&broker, "ours.pem", |_, _| {});
        gateway.options.confirm = speedwell::uplink::Confirmation::Broker;
        gateway.append(10).await;
        gateway.start();
        gateway.until("all freed", |s| s.confirmed == 10).await;
        let other = if version == "TLSv1.2" { "-tls1_3" } else { "-tls1_2" };
        assert!(!handshakes(&broker, other), "it speaks {other} too: the test shows nothing");
    }
    let old = broker_of("TLSv1", "TLSv1.1");
    let mut gateway = gateway(&old, "ours.pem", |_, _| {});
    gateway.start();
    let fault = gateway.fault().await;
    assert!(fault.remedy().contains("TLS 1.2 or 1.3"), "{fault}: {}", fault.remedy());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_naming_both() {
    if !installed() {
        return;
    }
    let broker = tls_broker("DNS:broker.example", 30, "");
    let mut refused = gateway(&broker, "ours.pem", |_, _| {});
    refused.start();
    let fault = refused.fault().await;
    let told = "is not accepted: it is not for the name \"localhost\", but for broker.example";
    assert!(fault.to_string().ends_with(told), "{fault}");
    assert!(fault.remedy().contains("broker.server-name"));
    // With the name told, it is accepted.
    let mut accepted = gateway(&broker, "ours.pem", |tls, _| tls.server_name = Some("broker.example".into()));
    accepted.start();
    accepted.until("connected", |s| s.link == Link::Connected).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_as_expired() {
    if !installed() {
        return;
    }
    let broker = tls_broker("DNS:localhost", -1, "");
    let mut gateway = gateway(&broker, "ours.pem", |_, _| {});
    gateway.start();
    let fault = gateway.fault().await;
    assert_eq!(
        fault.to_string(),
        format!("the certificate of localhost:{} is not accepted: it has expired", broker.port)
    );
    assert!(fault.remedy().contains("clock"));
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_as_such() {
    if !installed() {
        return;
    }
    let broker = tls_broker("DNS:localhost", 30, "");
    let mut theirs = gateway(&broker, "theirs.pem", |_, _| {});
    theirs.start();
    let fault = theirs.fault().await;
    assert_eq!(trouble(&fault), &CertificateTrouble::UnknownAuthority, "{fault}");
    let mut public = gateway(&broker, "ours.pem", |tls, _| tls.ca_file = None);
    public.start();
    let fault = public.fault().await;
    assert_eq!(trouble(&fault), &CertificateTrouble::UnknownAuthority, "{fault}");
}

#[tokio::test]
async fn a_broker_that_wants_a_client_certificate_says_so_and_takes_a_good_one() {
    if !installed() {
        return;
    }
    let broker = tls_broker("DNS:localhost", 30, "cafile DIR/ours.pem\nrequire_certificate true\n");
    let mut without = gateway(&broker, "ours.pem", |_, _| {});
    without.start();
    let fault = without.fault().await;
    assert!(matches!(fault, Fault::ClientCertificate { .. }), "{fault}");
    let mut with = gateway(&broker, "ours.pem", |tls, dir| {
        (tls.client_certificate, tls.client_key) = (Some(dir.join("truck.pem")), Some(dir.join("truck.key")));
    });
    with.start();
    with.until("connected", |s| s.link == Link::Connected).await;
}

#[tokio::test]
async fn files_that_are_missing_or_hold_something_else_are_named() {
    if !installed() {
        return;
    }
    let broker = tls_broker("DNS:localhost", 30, "");
    let dir = broker.directory.path();
    let mut missing = gateway(&broker, "nowhere.pem", |_, _| {});
    missing.start();
    let told = format!("{}: No such file or directory (os error 2)", dir.join("nowhere.pem").display());
    assert_eq!(missing.fault().await.to_string(), told);
    let mut key = gateway(&broker, "ours.key", |_, _| {});
    key.start();
    assert_eq!(key.fault().await.to_string(), format!("{}: no certificate in it", dir.join("ours.key").display()));
    let mut half = gateway(&broker, "ours.pem", |tls, dir| tls.client_key = Some(dir.join("truck.key")));
    half.start();
    assert!(half.fault().await.to_string().contains("go together"));
    let mut mixed = gateway(&broker, "ours.pem", |tls, dir| {
        (tls.client_certificate, tls.client_key) = (Some(dir.join("truck.pem")), Some(dir.join("broker.key")));
    });
    mixed.start();
    assert!(mixed.fault().await.to_string().contains("does not go with the key"));
}

#[tokio::test]
async fn tls_to_a_port_without_it_and_the_other_way_round_are_told_with_the_remedy() {
    if !installed() {
        return;
    }
    let secured = tls_broker("DNS:localhost", 30, "");
    let mut bare = Gateway::new(secured.port, |_| {});
    bare.start();
    let fault = bare.fault().await;
    assert!(
        fault.to_string().contains("mqtts://") || fault.remedy().contains("mqtts://"),
        "{fault}: {}",
        fault.remedy()
    );
    let plain = Broker::start();
    let ca = secured.directory.path().join("ours.pem");
    let mut tls = Gateway::new(plain.port, |o| {
        (o.host, o.tls) = ("localhost".into(), Some(Tls { ca_file: Some(ca), ..Tls::default() }));
    });
    tls.start();
    let fault = tls.fault().await;
    assert!(fault.to_string().contains("TLS"), "{fault}: {}", fault.remedy());
}

#[test]
fn every_refusal_of_the_standard_has_words_and_a_remedy() {
    let refusals =
        [Refusal::Protocol, Refusal::ClientId, Refusal::Unavailable, Refusal::Credentials, Refusal::NotAuthorised];
    for (code, refusal) in refusals.into_iter().enumerate() {
        let fault = Fault::Refused { host: "b".into(), port: 1, refusal };
        assert!(fault.to_string().ends_with(&format!("(code {})", code + 1)), "{fault}");
        assert!(!fault.remedy().is_empty());
    }
}

#[tokio::test]
async fn the_hub_of_the_tests_takes_what_comes_through_tls() {
    if !installed() {
        return;
    }
    // Two listeners: TLS for the gateway, a bare one for the hub.
    let bare = broker::free_port();
    let broker = tls_broker("DNS:localhost", 30, &format!("listener {bare} 127.0.0.1\n"));
    let hub = Hub::start(bare).await;
    let mut gateway = gateway(&broker, "ours.pem", |_, _| {});
    gateway.append(1000).await;
    gateway.start();
    gateway.until("all freed", |s| s.confirmed == 1000).await;
    assert_eq!(hub.state().records(), gateway.numbered(1..=1000));
}
