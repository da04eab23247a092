//! Frames and what other decoders and other people's tests make of them: cantools' motohawk.dbc and padding_bit_order.dbc (MIT),
//! opendbc's Honda and Hyundai files (MIT).

use super::DbcFile;

const FILE: &str = r#"BO_ 496 Motohawk: 8 PCM1
 SG_ Temperature : 0|12@0- (0.01,250) [229.53|270.47] "degK" X
 SG_ AverageRadius : 6|6@0+ (0.1,0) [0|5] "m" X
 SG_ Enable : 7|1@0+ (1,0) [0|0] "-" X
BO_ 464 WHEEL_SPEEDS: 8 VSA
 SG_ WHEEL_SPEED_FL : 7|15@0+ (0.01,0) [0|250] "kph" X
 SG_ WHEEL_SPEED_FR : 8|15@0+ (0.01,0) [0|250] "kph" X
 SG_ WHEEL_SPEED_RL : 25|15@0+ (0.01,0) [0|250] "kph" X
 SG_ WHEEL_SPEED_RR : 42|15@0+ (0.01,0) [0|250] "kph" X
BO_ 344 ENGINE_DATA: 8 PCM
 SG_ XMISSION_SPEED : 7|16@0+ (0.01,0) [0|250] "kph" X
BO_ 902 WHL_SPD11: 8 ABS
 SG_ WHL_SPD_FL : 0|14@1+ (0.03125,0) [0|511.96875] "km/h" X
 SG_ WHL_SPD_FR : 16|14@1+ (0.03125,0) [0|511.96875] "km/h" X
BO_ 7 SIGNED: 8 X
 SG_ S : 32|12@1- (0.1,0) [0|0] "" X
BO_ 1 MSG0: 8 X
 SG_ A : 6|15@0+ (1,0) [0|32767] "" X
 SG_ B : 7|1@0+ (1,0) [0|1] "" X
 SG_ C : 38|15@0+ (1,0) [0|32767] "" X
 SG_ D : 39|1@0+ (1,0) [0|1] "" X
BO_ 2 MSG1: 8 X
 SG_ E : 0|1@1+ (1,0) [0|1] "" X
 SG_ F : 1|15@1+ (1,0) [0|32767] "" X
 SG_ G : 32|1@1+ (1,0) [0|1] "" X
 SG_ H : 33|15@1+ (1,0) [0|32767] "" X
BO_ 3 MSG2: 8 X
 SG_ I : 0|4@1+ (1,0) [0|15] "" X
 SG_ J : 4|4@1+ (1,0) [0|15] "" X
 SG_ K : 8|4@1+ (1,0) [0|15] "" X
BO_ 4 MSG3: 8 X
 SG_ L : 7|64@0+ (1,0) [0|18446744073709551615] "" X
BO_ 5 MSG4: 8 X
 SG_ M : 0|64@1+ (1,0) [0|18446744073709551615] "" X
"#;

fn payload(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// What a frame says of every signal of its message, in the order of the file.
#[track_caller]
fn says(message: &str, hex: &str, wanted: &[Option<f64>]) {
    let file = DbcFile::parse(FILE.as_bytes());
    let message = file.message(message).unwrap();
    let got: Vec<Option<f64>> = (0..message.signals.len()).map(|at| message.value(at, &payload(hex))).collect();
    let near = |got: &Option<f64>, wanted: &Option<f64>| match (got, wanted) {
        (Some(got), Some(wanted)) => (got - wanted).abs() < 1e-9 * wanted.abs().max(1.0),
        (got, wanted) => got.is_none() && wanted.is_none(),
    };
    assert!(got.len() == wanted.len() && got.iter().zip(wanted).all(|(g, w)| near(g, w)), "{hex}: {got:?}");
}

#[test]
fn a_signed_number_across_bytes_high_byte_first() {
    says("Motohawk", "C006E00000000000", &[Some(250.55), Some(3.2), Some(1.0)]);
    says("Motohawk", "0100200000000000", &[Some(229.53), Some(0.0), Some(0.0)]);
    says("Motohawk", "0011", &[None, Some(0.0), Some(0.0)]);
}

#[test]
fn wheels_of_a_honda_and_of_a_hyundai() {
    says("WHEEL_SPEEDS", "01F804340778106A", &[2.52, 2.69, 2.39, 2.62].map(Some));
    says("WHEEL_SPEEDS", "3FD67FB400000000", &[81.71, 81.73, 0.0, 0.0].map(Some));
    says("ENGINE_DATA", "208B0000208B0934", &[Some(83.31)]);
    says("WHL_SPD11", "A00FA20F00080000", &[125.0, 125.0625].map(Some));
}

#[test]
fn a_signed_number_low_byte_first() {
    says("SIGNED", "0000000000080000", &[Some(-204.8)]);
    says("SIGNED", "00000000FF0F0000", &[Some(-0.1)]);
}

#[test]
fn every_order_of_bits_and_64_of_them() {
    says("MSG0", "82C9000002C90000", &[713.0, 1.0, 713.0, 0.0].map(Some));
    says("MSG1", "9305000092050000", &[1.0, 713.0, 0.0, 713.0].map(Some));
    says("MSG2", "2103000000000000", &[1.0, 2.0, 3.0].map(Some));
    let number = 0x0123_4567_89AB_CDEF_u64 as f64;
    says("MSG3", "0123456789ABCDEF", &[Some(number)]);
    says("MSG4", "EFCDAB8967452301", &[Some(number)]);
}
