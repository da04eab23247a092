//! The other ways in: a key over plain TCP, TLS, and the command line of a hub that runs as a process of its own.

mod rig;

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rig::{
    http::{request, send},
    *,
};
use serde_json::{Value, json};
use speedwell_hub::{
    BrokerUrl, Hub, HubError,
    access::{By, NewKey, Role, Scopes},
    config::Tcp,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring},
};

const PASSWORD: &str = "correct horse battery";
const MESSAGE: &str =
    "{\"device_id\":\"t\",\"location\":\"41.0,28.9\",\"speed\":36,\"timestamp\":\"2026-05-04T10:00:00Z\"}\n";

fn nobody() -> BrokerUrl {
    BrokerUrl::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))
}

async fn key(rig: &HubRig, name: &str, scopes: &str) -> (String, String) {
    let new = NewKey { name: name.into(), scopes: Scopes::parse(scopes), until_s: None };
    rig.hub().access.change(move |book| book.add_key(&By::command_line(), &new)).await.unwrap()
}

struct Line(BufReader<TcpStream>);

impl Line {
    async fn to(rig: &HubRig) -> Line {
        Line(BufReader::new(TcpStream::connect(rig.hub().tcp.unwrap()).await.unwrap()))
    }

    /// Says something and hears the answer; `Null` when the hub has closed.
    async fn ask(&mut self, text: &str) -> Value {
        // A hub that has closed is heard of by reading.
        let _ = self.0.get_mut().write_all(text.as_bytes()).await;
        let mut line = String::new();
        let read = timeout(LONG, self.0.read_line(&mut line)).await.expect("an answer in time");
        if read.unwrap_or(0) == 0 { Value::Null } else { serde_json::from_str(&line).unwrap() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_a_key_comes_first_and_counts_until_it_is_revoked() {
    let rig = HubRig::with(nobody(), |config| {
        config.tcp = Some(Tcp { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..Tcp::default() });
    })
    .await;
    let mut early = Line::to(&rig).await;
    assert_eq!(early.ask(MESSAGE).await, json!({"message": "Data received", "accepted": 1}), "nobody is asked yet");
    let (id, good) = key(&rig, "tracker", "ingest").await;
    let (_, looks) = key(&rig, "looks", "read").await;
    assert_eq!(early.ask(MESSAGE).await["error"], "Key needed.", "from the first key on");
    assert_eq!(early.ask("").await, Value::Null);

    let say = |key: &str| format!("{{\"key\":\"{key}\"}}\n");
    for (first, why) in [
        (MESSAGE.to_owned(), "before anything else"),
        ("rubbish\n".to_owned(), "before anything else"),
        (say("swk_wrong"), "not known"),
        (say(&looks), "scope ingest"),
    ] {
        let mut line = Line::to(&rig).await;
        let told = line.ask(&first).await;
        assert_eq!(told["error"], "Key needed.", "{told}");
        assert!(told["reason"].as_str().unwrap().contains(why), "{told}");
        assert_eq!(line.ask("").await, Value::Null, "closed");
    }
    let mut line = Line::to(&rig).await;
    assert_eq!(line.ask(&say(&good)).await, json!({"message": "Key accepted"}));
    for _ in 0..3 {
        assert_eq!(line.ask(MESSAGE).await["accepted"], 1);
    }
    rig.hub().access.change(move |book| book.revoke_key(&By::command_line(), &id)).await.unwrap();
    assert!(line.ask(MESSAGE).await["reason"].as_str().unwrap().contains("revoked"));
    assert_eq!(line.ask("").await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_the_hub_speaks_tls_and_a_silent_client_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (certificate, private) = (directory.path().join("hub.pem"), directory.path().join("hub.key"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&private, made.signing_key.serialize_pem()).unwrap();
    let rig = HubRig::with(nobody(), |config| {
        config.http.certificate = Some(certificate.clone());
        config.http.key = Some(private.display().to_string());
    })
    .await;
    let add = rig.hub().access.add_user(By::command_line(), "anna".into(), Role::Admin, PASSWORD.into());
    add.await.unwrap();
    let _silent = TcpStream::connect(rig.hub().http).await.unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(rig.hub().http).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut stream = timeout(LONG, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap().unwrap();
    let body = json!({"name": "anna", "password": PASSWORD}).to_string();
    let request = format!(
        "POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("strict-transport-security: max-age="), "{answer}");
    assert!(answer.contains("; Secure"), "the cookie does not go out unencrypted: {answer}");

    let mut plain = TcpStream::connect(rig.hub().http).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut told = Vec::new();
    let _ = timeout(LONG, plain.read_to_end(&mut told)).await.expect("closed");
    assert!(!told.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&told));

    let mut wrong = rig.config.clone();
    wrong.http.key = wrong.http.certificate.as_ref().map(|path| path.display().to_string());
    let told = match Hub::start(wrong).await {
        Err(error @ HubError::Tls(_)) => error.to_string(),
        _ => panic!("it starts with a certificate as its key"),
    };
    assert!(told.contains("[http] key"), "{told}");
}

/// A hub as a process of its own, all that it says in a file.
struct Process {
    child: Option<Child>,
    directory: tempfile::TempDir,
    http: SocketAddr,
}

impl Process {
    fn new(listen: &str) -> Process {
        let directory = tempfile::tempdir().unwrap();
        let (port, top) = (free_port(), directory.path().display());
        let text = format!(
            "[broker]\nurl = \"mqtt://127.0.0.1:1\"\n[store]\npath = \"{top}/hub.sqlite\"\n\
             [http]\nlisten = \"{listen}:{port}\"\n[log]\nlevel = \"trace\"\n"
        );
        fs::write(directory.path().join("hub.toml"), text).unwrap();
        Process { child: None, directory, http: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_speedwell-hub"));
        command.args(words).arg("--config").arg(self.path("hub.toml"));
        command
    }

    /// Says `input` to a command.
    fn told(&self, words: &[&str], input: &str) -> Output {
        let mut command = self.command(words);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    async fn run(&mut self) {
        let log = fs::File::create(self.path("log")).unwrap();
        self.child = Some(self.command(&["run"]).stderr(log).spawn().unwrap());
        let began = Instant::now();
        while TcpStream::connect(self.http).await.is_err() {
            assert!(began.elapsed() < LONG, "{}", text(&self.path("log")));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn of(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_others_would_reach_starts_only_when_somebody_can_log_in() {
    let mut hub = Process::new("0.0.0.0");
    for command in ["check", "run"] {
        let refused = hub.told(&[command], "");
        assert_eq!(refused.status.code(), Some(78), "{}", of(&refused.stderr));
        assert!(of(&refused.stderr).contains("speedwell-hub user add NAME --role admin"), "{}", of(&refused.stderr));
    }
    let short = hub.told(&["user", "add", "anna", "--role", "admin"], "short\n");
    assert!(!short.status.success() && of(&short.stderr).contains("12 characters"), "{}", of(&short.stderr));
    assert!(hub.told(&["user", "add", "anna", "--role", "admin"], &format!("{PASSWORD}\n")).status.success());
    assert!(hub.told(&["check"], "").status.success());
    hub.run().await;
    assert_eq!(request(hub.http, "GET", "/api/v1/gateways", None).await.0, 401);
    let login = json!({"name": "anna", "password": PASSWORD});
    assert_eq!(request(hub.http, "POST", "/api/v1/login", Some(&login)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_rules_a_running_hub_and_nothing_secret_is_in_its_log_or_audit() {
    let mut hub = Process::new("127.0.0.1");
    hub.run().await;
    assert!(text(&hub.path("log")).contains("neither a user nor a key"), "it says that it is open");
    let status = async |token: &str| {
        let lines = format!("Authorization: Bearer {token}\r\n");
        send(hub.http, "GET", "/api/v1/me", &lines, b"").await.0
    };
    let becomes = async |token: &str, wanted: u16| {
        let began = Instant::now();
        while status(token).await != wanted {
            assert!(began.elapsed() < LONG, "never {wanted}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert_eq!(status("").await, 200);
    assert!(hub.told(&["user", "add", "anna", "--role", "viewer"], &format!("{PASSWORD}\r\n")).status.success());
    becomes("", 401).await;
    let made = hub.told(&["key", "add", "tracker", "--scope", "read,ingest", "--days", "30"], "");
    let key = of(&made.stdout).trim().to_owned();
    assert!(key.starts_with("swk_") && !of(&made.stderr).contains(&key), "{}", of(&made.stderr));
    becomes(&key, 200).await;

    let login = json!({"name": "anna", "password": PASSWORD});
    let (_, _, told) = request(hub.http, "POST", "/api/v1/login", Some(&login)).await;
    let token = serde_json::from_str::<Value>(&told).unwrap()["token"].as_str().unwrap().to_owned();
    let slip = json!({"name": "oops-my-password-here", "password": "anna"});
    assert_eq!(request(hub.http, "POST", "/api/v1/login", Some(&slip)).await.0, 401);
    assert_eq!(status(&format!("{token}0")).await, 401);

    assert!(of(&hub.told(&["user", "list"], "").stdout).contains("anna"));
    assert!(hub.told(&["user", "role", "anna", "operator"], "").status.success());
    assert!(hub.told(&["user", "passwd", "anna"], "another horse battery\n").status.success());
    becomes(&token, 401).await;
    assert!(of(&hub.told(&["key", "list"], "").stdout).contains("read,ingest"));
    assert!(hub.told(&["key", "revoke", "tracker"], "").status.success());
    becomes(&key, 401).await;
    let unknown = hub.told(&["user", "remove", "carl"], "");
    assert!(!unknown.status.success() && of(&unknown.stderr).contains("no user \"carl\""), "{}", of(&unknown.stderr));
    assert!(hub.told(&["user", "remove", "anna"], "").status.success());

    let audit = of(&hub.told(&["audit"], "").stdout);
    for what in ["user-added", "key-added", "login-refused", "role-changed", "password-changed", "key-revoked"] {
        assert!(audit.contains(what), "{what}: {audit}");
    }
    let log = text(&hub.path("log"));
    assert!(log.contains("a login was refused"), "the log is the right one");
    let secret_part = |token: &str| token.rsplit('_').next().unwrap().to_owned();
    for secret in [PASSWORD, "another horse battery", "oops-my", &secret_part(&key), &secret_part(&token), "argon2id"] {
        assert!(!log.contains(secret) && !audit.contains(secret), "{secret} is told");
    }
}
