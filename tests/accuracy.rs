//! The study of accuracy in its short form: what `cargo run --release --example accuracy` shows in full must hold at
//! every commit, and the study must be able to fail.

#[path = "../examples/accuracy/study/mod.rs"]
mod study;

use study::report::{Gate, Group, Row};

fn run(arguments: &[&str]) -> (u8, String, String) {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let code = study::command(&arguments, &mut out, &mut errors);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
}

#[test]
fn every_speed_is_as_true_as_it_can_be() {
    let (code, table, errors) = run(&["--quick"]);
    println!("{table}");
    assert_eq!((code, errors.as_str()), (0, ""));
    for property in 1..=14 {
        assert!(table.lines().any(|line| line.starts_with(&format!("S{property} "))), "S{property} is not looked at");
    }
}

#[test]
fn another_seed_holds_too_and_the_same_seed_says_the_same() {
    let one = run(&["--quick", "--seed", "7", "--only", "S1,S4,S9"]);
    assert_eq!(one.0, 0, "{}", one.1);
    assert_eq!(one, run(&["--quick", "--seed", "7", "--only", "S1,S4,S9"]));
    assert_ne!(one.1, run(&["--quick", "--seed", "8", "--only", "S1,S4,S9"]).1);
}

#[test]
fn a_figure_beyond_its_gate_or_none_at_all_is_a_failure() {
    let tally = |row: Row| {
        let mut group = Group::new("S1", "");
        group.rows.push(row);
        group.tally()
    };
    assert_eq!(tally(Row::new("", 1.0, Gate::AtMost(1.1))), (1, 0));
    assert_eq!(tally(Row::new("", 1.2, Gate::AtMost(1.1))), (0, 1));
    assert_eq!(tally(Row::new("", f64::NAN, Gate::AtMost(1.1))), (0, 1));
    assert_eq!(tally(Row::new("", f64::NAN, Gate::Told)), (0, 1));
    assert_eq!(tally(Row::new("", 91.0, Gate::Between(92.0, 98.0))), (0, 1));
    assert_eq!(tally(Row::new("", 1.0, Gate::AtMost(1.1)).unless(false, "silent at times")), (0, 1));
}

#[test]
fn what_it_cannot_do_it_says() {
    for (arguments, why) in [
        (&["--only", "S15"][..], "S15"),
        (&["--seed", "many"], "--seed many: not a whole number"),
        (&["--fast"], "no option \"--fast\""),
        (
            &["--quick", "--only", "S1", "--plot", "/no/such/folder/a.svg"],
            "cannot write the plot to /no/such/folder/a.svg",
        ),
    ] {
        let (code, _, errors) = run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {errors}");
        assert!(errors.contains(why), "{arguments:?}: {errors}");
    }
}
