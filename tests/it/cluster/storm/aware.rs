//! Writers that know the cluster themselves, with a client library: what they lose under the same faults.

use std::time::Duration;

use redis::RedisError;
use redis::cluster::{ClusterClient, ClusterConnection};

use super::tale::Tale;
use super::weather::Weather;
use super::{Part, pace};

fn connect(url: &str) -> Result<ClusterConnection, RedisError> {
    let hosts = url.trim_start_matches("redis+cluster://").split(',').map(|host| format!("redis://{host}"));
    let timeout = Duration::from_secs(1);
    let client = ClusterClient::builder(hosts).connection_timeout(timeout).response_timeout(timeout).build()?;
    client.get_connection()
}

/// It writes and reads as the plain ones do.
pub fn run(part: &Part<'_>, url: &str, weather: &Weather) {
    let mut connection = None;
    let mut tales: Vec<Tale> = (0..6).map(|n| Tale::new(format!("aware:{}:{n}", part.id))).collect();
    let mut round = 0;
    while !part.weather.is_over() {
        round += 1;
        let at = round % tales.len();
        if ask(&mut connection, url, &mut tales[at], weather).is_err() {
            connection = None;
        }
        pace(part);
    }
}

fn ask(
    connection: &mut Option<ClusterConnection>,
    url: &str,
    tale: &mut Tale,
    weather: &Weather,
) -> Result<(), RedisError> {
    let known = match connection {
        Some(known) => known,
        None => connection.insert(connect(url)?),
    };
    let number = tale.next();
    redis::cmd("SET").arg(&tale.key).arg(tale.value(number)).exec(known)?;
    tale.is_kept(number, weather);
    let value: Option<String> = redis::cmd("GET").arg(&tale.key).query(known)?;
    tale.is_read(value.as_deref(), tale.sent(), weather);
    Ok(())
}
