//! What clients of .NET, Java and Lisp send when they connect, replayed from `transcripts.txt`.

use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire::line;

#[test]
fn clients_that_cannot_be_installed_everywhere_connect() {
    let (redis, twin) = (Redis::start(), Redis::start());
    let sidecar = Sidecar::builder().redis(&redis).set("SECURITY__DENY", "SHUTDOWN").start();
    for transcript in include_str!("transcripts.txt").split("\n\n").skip(1) {
        let (mut through, mut direct) = (sidecar.wire(), twin.wire());
        for request in transcript.lines().filter(|line| !line.starts_with('#')) {
            let (mark, request) = request.split_once(' ').expect("a mark and a request");
            through.send(&line(request));
            direct.send(&line(request));
            let (ours, theirs) = (through.frame(), direct.frame());
            match mark {
                "=" => assert_eq!(
                    String::from_utf8_lossy(&ours),
                    String::from_utf8_lossy(&theirs),
                    "{transcript}\n{request}"
                ),
                "~" => assert_eq!(ours[0], theirs[0], "{transcript}\n{request}"),
                _ => assert_eq!(String::from_utf8_lossy(&ours), "+OK\r\n", "{transcript}\n{request}"),
            }
        }
    }
}
