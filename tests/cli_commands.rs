//! The command line as it is typed: what it prints, and the code it ends with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const FINE: i32 = 0;
const USAGE: i32 = 64;
const NO_INPUT_OR_DEVICE: [i32; 2] = [66, 69];
const SPOOL: i32 = 73;
const CONFIG: i32 = 78;

fn speedwell(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_speedwell"))
        .args(args)
        .env_remove("SPEEDWELL_CONFIG")
        .output()
        .expect("the program can be started")
}

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name).display().to_string()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The simulated example with its directories where a test wants them.
fn simulated(there: &Path, spool: &Path) -> PathBuf {
    let text = fs::read_to_string(example("simulated.toml")).expect("the example");
    let text = text
        .replace("/tmp/speedwell-demo/state", &there.join("state").display().to_string())
        .replace("/tmp/speedwell-demo/spool", &spool.display().to_string());
    let file = there.join("gateway.toml");
    fs::write(&file, text).expect("written");
    file
}

#[test]
fn a_command_whose_reader_has_gone_ends_without_a_word() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_speedwell"))
        .args(["boards", "rpi-4b"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program can be started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(err(&output), "");
}

#[test]
fn wrong_usage_ends_with_64_and_help_with_0() {
    assert_eq!(speedwell(&["frobnicate"]).status.code(), Some(USAGE));
    assert_eq!(speedwell(&[]).status.code(), Some(USAGE));
    assert_eq!(speedwell(&["boards", "--no-such"]).status.code(), Some(USAGE));
    let help = speedwell(&["--help"]);
    assert_eq!(help.status.code(), Some(FINE));
    for word in ["run", "check", "boards", "lines", "watch", "decode", "replay", "78  the configuration is wrong"] {
        assert!(out(&help).contains(word), "{word}");
    }
    assert_eq!(speedwell(&["--version"]).status.code(), Some(FINE));
}

#[test]
fn every_example_passes_a_check_without_hardware() {
    for name in ["smallest.toml", "truck.toml", "car.toml", "simulated.toml", "reference.toml"] {
        let output = speedwell(&["check", "--no-hardware", "--config", &example(name)]);
        assert_eq!(output.status.code(), Some(FINE), "{name}: {}", err(&output));
        assert!(out(&output).ends_with("The file is right. What it names was not looked at.\n"), "{name}");
    }
}

#[test]
fn a_wrong_file_ends_with_78_and_its_complaints_on_standard_error() {
    let there = tempfile::tempdir().expect("a directory");
    let file = there.path().join("g.toml");
    fs::write(&file, "[gateway]\nid = \"a b\"\n").expect("written");
    let output = speedwell(&["check", "--config", &file.display().to_string()]);
    assert_eq!(output.status.code(), Some(CONFIG));
    let text = err(&output);
    assert!(text.contains("g.toml:2:6: gateway.id: \"a b\" cannot be a gateway's name"), "{text}");
    assert!(text.contains("gateway.board: is missing"), "{text}");
    assert!(text.contains("the table [broker] is missing"), "{text}");
    assert_eq!(out(&output), "");
    // A replay wants to know what to replay before it looks at the configuration.
    for command in [&["run"][..], &["watch"], &["replay", "--can", "can0=/no/such"]] {
        let output = speedwell(&[command, &["--config", &file.display().to_string()]].concat());
        assert_eq!(output.status.code(), Some(CONFIG), "{command:?}");
    }
}

#[test]
fn the_configuration_is_named_by_the_environment_too() {
    let output = Command::new(env!("CARGO_BIN_EXE_speedwell"))
        .args(["check", "--no-hardware"])
        .env("SPEEDWELL_CONFIG", example("car.toml"))
        .output()
        .expect("the program can be started");
    assert!(out(&output).starts_with("gateway  car-3 on Raspberry Pi Zero 2 W (rpi-zero-2w)\n"), "{}", out(&output));
}

#[test]
fn a_simulated_gateway_needs_nothing_but_its_directories() {
    let there = tempfile::tempdir().expect("a directory");
    let file = simulated(there.path(), &there.path().join("spool"));
    let output = speedwell(&["check", "--config", &file.display().to_string()]);
    assert_eq!(output.status.code(), Some(FINE), "{}{}", out(&output), err(&output));
    assert!(out(&output).ends_with("All is well.\n"), "{}", out(&output));
    assert!(!there.path().join("spool").exists(), "a check creates nothing");
}

#[test]
fn a_spool_that_cannot_be_written_ends_with_73() {
    let there = tempfile::tempdir().expect("a directory");
    fs::write(there.path().join("file"), "").expect("written");
    let file = simulated(there.path(), &there.path().join("file/spool"));
    let output = speedwell(&["check", "--config", &file.display().to_string()]);
    assert_eq!(output.status.code(), Some(SPOOL), "{}", out(&output));
    assert!(out(&output).contains("is no directory"), "{}", out(&output));
}

#[test]
fn boards_are_listed_and_shown_and_an_unknown_one_is_told() {
    let list = speedwell(&["boards"]);
    assert_eq!(list.status.code(), Some(FINE));
    assert!(out(&list).contains("rpi-4b            Raspberry Pi 4 Model B         built in\n"), "{}", out(&list));
    let one = out(&speedwell(&["boards", "rpi-4b"]));
    assert!(one.contains("GPIO17 [SPI1 CE1]    P11 | P12    GPIO18 [PWM0, PCM CLK, SPI1 CE0]\n"), "{one}");
    assert!(one.contains("GPIO chip pinctrl-bcm2711, 58 lines\n"), "{one}");
    let unknown = speedwell(&["boards", "rpi-9"]);
    assert_eq!(unknown.status.code(), Some(USAGE));
    assert!(err(&unknown).starts_with("there is no board \"rpi-9\"; there are: beaglebone-black, "));
}

#[test]
fn a_board_of_ones_own_is_found_in_a_directory() {
    let there = tempfile::tempdir().expect("a directory");
    let board = "title = \"Ours\"\nany-line = true\nsupported-rate-hz = 10\nbest-effort-rate-hz = 20\n";
    fs::write(there.path().join("ours.toml"), board).expect("written");
    let directory = there.path().display().to_string();
    let list = out(&speedwell(&["boards", "--boards", &directory]));
    assert!(list.lines().any(|line| line.starts_with("ours ") && line.ends_with("ours.toml")), "{list}");
}

#[test]
fn lines_are_listed_without_a_configuration_or_the_lack_of_chips_is_told() {
    let output = speedwell(&["lines", "--config", "/no/such.toml", "--board", "rpi-4b"]);
    match output.status.code() {
        Some(FINE) => assert!(out(&output).contains("line"), "{}", out(&output)),
        // A machine without GPIO, or one whose chips the test may not open.
        Some(69) => assert!(err(&output).contains("there is no GPIO chip"), "{}", err(&output)),
        Some(77) => assert!(err(&output).contains("permission denied"), "{}", err(&output)),
        other => panic!("{other:?}: {}", err(&output)),
    }
}

#[test]
fn what_is_missing_on_this_machine_is_told_each_by_itself() {
    // No test machine is a Zero 2 W with a GNSS receiver.
    let output = speedwell(&["check", "--config", &example("car.toml")]);
    let code = output.status.code().expect("it ended");
    assert!([77, SPOOL].contains(&code) || NO_INPUT_OR_DEVICE.contains(&code), "{code}: {}", out(&output));
    assert!(out(&output).contains("FAIL  "), "{}", out(&output));
    assert!(out(&output).contains("password-file /etc/speedwell/password"), "{}", out(&output));
}
