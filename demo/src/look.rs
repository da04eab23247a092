//! Looks at the hub as a program would: are the speeds there?

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The demo's sensors.
const SENSORS: [&str; 3] = ["front-wheel", "ecu-speed", "gnss"];

/// Longest wait for all speeds, whatever the limit: a demo that never shows anything must end too.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the hub tells a speed of every sensor, prints how long it took since `started`, and complains when
/// that was longer than `limit`.
pub(crate) async fn until_speeds(
    hub: SocketAddr,
    token: &str,
    started: Instant,
    limit: Duration,
) -> Result<(), String> {
    loop {
        let missing = match gateways(hub, token).await {
            Ok(answer) => SENSORS.into_iter().filter(|sensor| speed_of(&answer, sensor).is_none()).collect(),
            Err(_) => SENSORS.to_vec(),
        };
        let took = started.elapsed();
        if missing.is_empty() {
            println!("first speeds of all {} sensors after {:.2} s", SENSORS.len(), took.as_secs_f64());
            return match took <= limit {
                true => Ok(()),
                false => Err(format!("that is later than the {:.1} s allowed", limit.as_secs_f64())),
            };
        }
        if took > PATIENCE {
            return Err(format!("no speed of {} after {} s", missing.join(", "), PATIENCE.as_secs()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The newest speed of a sensor in the hub's answer.
fn speed_of(answer: &serde_json::Value, sensor: &str) -> Option<f64> {
    let gateways = answer.get("gateways")?.as_array()?;
    let channels = gateways.iter().filter_map(|gateway| gateway.get("channels")?.as_array()).flatten();
    let of_sensor = |channel: &&serde_json::Value| channel["sensor"] == sensor && channel["quantity"] == "speed";
    channels.filter(of_sensor).find_map(|channel| channel["value"].as_f64())
}

async fn gateways(hub: SocketAddr, token: &str) -> Result<serde_json::Value, String> {
    let mut stream = TcpStream::connect(hub).await.map_err(|e| e.to_string())?;
    let request = format!("GET /api/v1/gateways HTTP/1.0\r\nHost: {hub}\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer).await.map_err(|e| e.to_string())?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).ok_or("no body")?;
    serde_json::from_str(body).map_err(|e| e.to_string())
}
