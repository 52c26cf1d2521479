//! Which of the hosts is taken, and what is said where none can be.

use super::{Pair, is_whole};
use crate::support::until;

#[test]
fn the_host_that_fits_is_taken_wherever_it_stands() {
    let pair = Pair::new("notify");
    let (primary, standby) = (pair.primary.port, pair.standby.port);
    let check = |url: String| {
        let done = pair.over(primary).set("STORE__URL", url).execute(&["check", "--connect"]);
        let told = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
        (done.status.code(), told)
    };
    let both = |parameters: &str| format!("postgres:///postgres?user=postgres&host=127.0.0.1,127.0.0.1&{parameters}");
    for (url, is_standby) in [
        (both(&format!("port={standby},{primary}&target_session_attrs=read-write")), false),
        (both(&format!("port={standby},{primary}&target_session_attrs=primary")), false),
        (both(&format!("port={primary},{standby}&target_session_attrs=standby")), true),
        (both(&format!("port={primary},{standby}&target_session_attrs=read-only")), true),
        (both(&format!("port={primary},{standby}&target_session_attrs=prefer-standby")), true),
        (both(&format!("port={standby},{primary}&target_session_attrs=any")), true),
        (pair.url(1, "target_session_attrs=prefer-standby"), true),
    ] {
        let (code, told) = check(url.clone());
        assert_eq!((code, told.contains("hot standby: reads only")), (Some(0), is_standby), "{url}: {told}");
    }
    let (code, told) = check(pair.url(1, "target_session_attrs=read-write"));
    let expected = "none of its hosts is what target_session_attrs=read-write asks for: 127.0.0.1:1: ";
    assert!(code != Some(0) && told.contains(expected), "{told}");
    assert!(told.contains(&format!("127.0.0.1:{standby}: is a hot standby")), "{told}");
}

#[test]
fn a_start_waits_for_the_promotion() {
    let pair = Pair::new("notify");
    pair.primary.stop();
    let expected = crate::support::warnings::STORE_LATE;
    let mut sidecar = pair.over(pair.primary.port).expect(expected).spawn();
    until("it says why", || sidecar.log().contains("is a hot standby"));
    pair.standby.promote();
    sidecar.wait_ready();
    is_whole(&sidecar, &pair.standby);
}
