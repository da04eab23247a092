//! What is installed fits together: units, command line, documents, examples.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(top().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The values of a key of a unit, in order.
fn values(unit: &str, key: &str) -> Vec<String> {
    let start = format!("{key}=");
    text(unit).lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
}

#[test]
fn the_agent_understands_the_command_lines_of_its_unit() {
    let unit = "systemd/speedwell.service";
    let of_unit = ["ExecStartPre", "ExecStart", "ExecReload"].map(|key| values(unit, key)).concat();
    let lines = of_unit.into_iter().chain(values("systemd/notify-reload.conf", "ExecReload"));
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with("/bin/kill")) {
        let mut words = line.trim_start_matches('-').split(' ');
        assert_eq!(words.next(), Some("/usr/bin/speedwell"));
        // `--help` after them: the arguments are parsed, nothing is run.
        let out = Command::new(env!("CARGO_BIN_EXE_speedwell")).args(words).arg("--help").output().unwrap();
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn a_wrong_configuration_ends_with_a_code_that_systemd_does_not_restart() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("gateway.toml");
    fs::write(&file, "[gateway]\nid = 'a'\nboard = 'nonesuch'\n").unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_speedwell")).arg("run").arg("--config").arg(&file).output().unwrap();
    let code = out.status.code().unwrap().to_string();
    let final_codes = values("systemd/speedwell.service", "RestartPreventExitStatus").join(" ");
    assert!(final_codes.split(' ').any(|c| c == code), "exit code {code} is not among {final_codes}");
}

#[test]
fn the_unit_lets_in_what_the_agent_needs() {
    let unit = "systemd/speedwell.service";
    let devices: BTreeSet<String> = values(unit, "DeviceAllow").into_iter().collect();
    for device in ["char-gpiochip rw", "char-ttyAMA rw", "char-ttyS rw", "char-ttyUSB rw", "char-i2c rw", "char-spi rw"]
    {
        assert!(devices.contains(device), "{device}");
    }
    for family in ["AF_CAN", "AF_INET", "AF_INET6", "AF_UNIX"] {
        assert!(values(unit, "RestrictAddressFamilies").join(" ").split(' ').any(|f| f == family), "{family}");
    }
    // The priority that src/board/gpio.rs asks for; a lower limit refuses it, and edges are read late without a word.
    let asked = text("src/board/gpio.rs")
        .lines()
        .find_map(|l| l.strip_prefix("const PRIORITY: libc::c_int = ").map(str::to_owned));
    assert_eq!(values(unit, "LimitRTPRIO"), [asked.expect("a priority").trim_end_matches(';')]);
    // Both would break it in a way that shows only on a gateway.
    assert!(values(unit, "ProtectClock").is_empty(), "ProtectClock forbids adjtimex, even to read");
    assert!(values(unit, "ProcSubset").is_empty(), "ProcSubset=pid hides the boot's id");
    // systemd 252 takes the newer type for a spelling mistake, and then waits for nothing at all.
    assert!(values(unit, "Type") == ["notify"] && !values(unit, "WatchdogSec").is_empty());
}

#[test]
fn a_reload_checks_the_file_before_the_agent_is_told() {
    let reload = values("systemd/speedwell.service", "ExecReload");
    assert!(reload[0].starts_with("/usr/bin/speedwell check --no-hardware "), "{reload:?}");
    assert_eq!(reload[1..], ["/bin/kill -HUP $MAINPID"]);
    // Where systemd sends the signal itself, a second one would come from the list it inherits.
    assert_eq!(values("systemd/notify-reload.conf", "ExecReload").first().map(String::as_str), Some(""));
}

#[test]
fn every_file_the_installation_guide_names_is_there() {
    let guide = text("docs/gateway.md");
    let mut named = 0;
    for word in guide.split(|c: char| c.is_whitespace() || "`,;()".contains(c)) {
        let word = word.trim_end_matches(['.', ':']);
        if ["systemd/", "config/", "scripts/", "boards/"].iter().any(|folder| word.starts_with(folder)) {
            assert!(top().join(word).exists(), "docs/gateway.md names {word}");
            named += 1;
        }
    }
    assert!(named > 8, "the guide names only {named} files: the test does not read it right");
}

#[test]
fn the_device_groups_of_the_unit_are_made_by_sysusers() {
    let sysusers = text("systemd/sysusers.conf");
    for group in values("systemd/speedwell.service", "SupplementaryGroups").join(" ").split(' ') {
        assert!(sysusers.lines().any(|line| line.split_whitespace().take(2).eq(["g", group])), "{group}");
        assert!(sysusers.contains(&format!("m speedwell {group}")), "{group}");
    }
}
