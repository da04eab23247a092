//! Plays a recording to its end: every step gives an item, whose times never go back, or a bad line; never more steps than
//! there are bytes.

use speedwell::board::recorded::Recording;

pub fn play(mut recording: impl Recording, length: usize) {
    let (mut last, mut steps) = (0, 0);
    while let Ok(Some(step)) = recording.next_step() {
        steps += 1;
        assert!(steps <= length + 1, "more steps than bytes");
        if let Ok(item) = step {
            assert!(item.t.0 >= last, "time goes back: {} after {last}", item.t.0);
            last = item.t.0;
        }
    }
    let _ = recording.passed_over();
}
