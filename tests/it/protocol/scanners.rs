//! Properties of the scanners: at every split, and held against redis-protocol's decoders.

use bytes::BytesMut;
use hearthside::resp::reply::{Frame, ReplyScanner};
use hearthside::resp::request::{RequestScanner, Scan};
use proptest::prelude::*;
use redis_protocol::resp2::decode::decode as decode2;
use redis_protocol::resp3::decode::complete::decode as decode3;

/// Any reply that both decoders understand, nested a little.
fn reply(resp3: bool) -> BoxedStrategy<Vec<u8>> {
    let text = "[ -~]{0,12}";
    let mut leaves = vec![
        text.prop_map(|t| format!("+{t}\r\n").into_bytes()).boxed(),
        text.prop_map(|t| format!("-ERR {t}\r\n").into_bytes()).boxed(),
        any::<i64>().prop_map(|n| format!(":{n}\r\n").into_bytes()).boxed(),
        proptest::collection::vec(any::<u8>(), 0..40)
            .prop_map(|b| [format!("${}\r\n", b.len()).as_bytes(), &b, b"\r\n"].concat())
            .boxed(),
    ];
    if resp3 {
        leaves.push(Just(b"_\r\n".to_vec()).boxed());
        leaves.push(Just(b"#t\r\n".to_vec()).boxed());
        leaves.push(Just(b",3.25\r\n".to_vec()).boxed());
        leaves.push(text.prop_map(|t| format!("={}\r\ntxt:{t}\r\n", t.len() + 4).into_bytes()).boxed());
    } else {
        leaves.push(Just(b"$-1\r\n".to_vec()).boxed());
        leaves.push(Just(b"*-1\r\n".to_vec()).boxed());
    }
    let leaf = proptest::strategy::Union::new(leaves);
    leaf.prop_recursive(4, 40, 5, move |inner| {
        let many = proptest::collection::vec(inner.clone(), 0..5);
        let array = many.prop_map(|items| [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat());
        if !resp3 {
            return array.boxed();
        }
        let key = "[a-z]{1,8}".prop_map(|k| format!("+{k}\r\n").into_bytes());
        let pairs = proptest::collection::vec((key, inner), 0..4);
        let map = pairs.prop_map(|pairs| {
            let body: Vec<u8> = pairs.iter().flat_map(|(k, v)| [k.clone(), v.clone()].concat()).collect();
            [format!("%{}\r\n", pairs.len()).into_bytes(), body].concat()
        });
        prop_oneof![array, map].boxed()
    })
    .boxed()
}

fn boundaries(bytes: &[u8], cuts: &[usize]) -> Vec<usize> {
    let (mut scanner, mut found, mut start) = (ReplyScanner::default(), Vec::new(), 0);
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    for end in ends {
        while start <= end {
            let scanned = scanner.scan(&bytes[start..end]).expect("a reply");
            start += scanned.used;
            match scanned.end {
                Some(Frame::Reply) => found.push(start),
                Some(Frame::Push) => panic!("no push was made"),
                None => break,
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn resp2_replies_end_where_redis_protocol_says(
        replies in proptest::collection::vec(reply(false), 1..5),
        cuts in proptest::collection::vec(any::<usize>(), 0..6),
    ) {
        let bytes = replies.concat();
        let (mut expected, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            at += decode2(&bytes[at..]).expect("decodes").expect("whole").1;
            expected.push(at);
        }
        prop_assert_eq!(boundaries(&bytes, &cuts), expected);
    }

    #[test]
    fn resp3_replies_end_where_redis_protocol_says(
        replies in proptest::collection::vec(reply(true), 1..5),
        cuts in proptest::collection::vec(any::<usize>(), 0..6),
    ) {
        let bytes = replies.concat();
        let (mut expected, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            at += decode3(&bytes[at..]).expect("decodes").expect("whole").1;
            expected.push(at);
        }
        prop_assert_eq!(boundaries(&bytes, &cuts), expected);
    }

    #[test]
    fn replies_end_alike_at_every_single_split(reply in reply(true)) {
        for cut in 0..=reply.len() {
            prop_assert_eq!(boundaries(&reply, &[cut]), vec![reply.len()]);
        }
    }

    #[test]
    fn requests_are_read_alike_at_every_split(
        args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 1..6),
    ) {
        let mut bytes = BytesMut::new();
        hearthside::resp::encode::request(&mut bytes, &args);
        let (frame, length) = decode2(&bytes).expect("decodes").expect("whole");
        let redis_protocol::resp2::types::OwnedFrame::Array(frames) = frame else { panic!("an array") };
        for cut in 0..=bytes.len() {
            let mut scanner = RequestScanner::default();
            if cut < bytes.len() {
                prop_assert_eq!(scanner.scan(&bytes[..cut]), Ok(Scan::Incomplete));
            }
            prop_assert_eq!(scanner.scan(&bytes), Ok(Scan::Complete(length)));
            prop_assert_eq!(scanner.spans().len(), frames.len());
            for (span, arg) in scanner.spans().iter().zip(&args) {
                prop_assert_eq!(&bytes[span.clone()], &arg[..]);
            }
        }
    }

    #[test]
    fn garbage_never_panics_and_never_hangs(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        step in 1_usize..20,
    ) {
        let (mut scanner, mut start) = (ReplyScanner::default(), 0);
        for end in (0..bytes.len()).step_by(step) {
            while start < end {
                match scanner.scan(&bytes[start..end]) {
                    Ok(scanned) if scanned.used > 0 => start += scanned.used,
                    _ => break,
                }
            }
        }
        let mut requests = RequestScanner::default();
        let mut rest = &bytes[..];
        for _ in 0..=bytes.len() {
            match requests.scan(rest) {
                Ok(Scan::Complete(n) | Scan::Inline(n, _) | Scan::Empty(n)) => {
                    prop_assert!(n > 0 && n <= rest.len());
                    rest = &rest[n..];
                }
                Ok(Scan::Incomplete) | Err(_) => break,
            }
        }
    }
}
