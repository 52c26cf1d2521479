//! RANDOMKEY in a cluster: a master is drawn, by the number of its keys, and draws one of them.

use bytes::Bytes;

use crate::dispatch::Flow;
use crate::dispatch::call::Call;
use crate::resp::pieces::Pieces;
use crate::resp::{decode, encode, reply};
use crate::upstream::Batch;

pub(super) fn answer(call: &mut Call<'_>) -> Flow {
    let (request, lane) = (Bytes::copy_from_slice(call.request.raw()), call.services.lane(call.session).clone());
    let (size, stops) = (encode::request_of(&["DBSIZE"]), lane.everywhere(false));
    // A request that is wrong is so everywhere.
    if call.request.len() > 1 {
        return Flow::Upstream(lane.submit(Batch::one(request, true)));
    }
    let asked = lane.submit(Batch::each(stops.iter().map(|stop| (stop.to, size.clone())), true));
    Flow::Later(Box::pin(async move {
        let (sizes, pushes) = asked.parts().await?;
        let mut all = Pieces::from(pushes);
        let mut left: Vec<(u64, _)> = Vec::with_capacity(stops.len());
        for (size, stop) in reply::each(&sizes.whole()).into_iter().zip(stops) {
            match decode::integer(&size) {
                Some(size) => left.push((size as u64, stop)),
                None if stop.counts => {
                    all.append(size);
                    return Ok(all);
                }
                // It has no slots, and so no keys.
                None => {}
            }
        }
        loop {
            let at = drawn(&left);
            let (_, stop) = left.swap_remove(at);
            let (reply, pushes) = lane.submit(Batch::one(request.clone(), true).to(stop.to)).parts().await?;
            all.append(pushes);
            // Its last key may have gone meanwhile.
            let reply = reply.whole();
            if left.is_empty() || !matches!(&reply[..], b"$-1\r\n" | b"_\r\n") {
                all.append(reply);
                return Ok(all);
            }
        }
    }))
}

/// The place of one that is drawn, by the weights.
fn drawn<T>(weights: &[(u64, T)]) -> usize {
    let all: u64 = weights.iter().map(|(weight, _)| weight).sum();
    if all == 0 {
        return 0;
    }
    let mut drawn = fastrand::u64(0..all);
    weights
        .iter()
        .position(|(weight, _)| {
            let is_it = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            is_it
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::drawn;

    #[test]
    fn whoever_has_nothing_is_not_drawn() {
        for _ in 0..100 {
            assert_eq!(drawn(&[(0, 'a'), (3, 'b'), (0, 'c')]), 1);
        }
        let mut seen = [false; 2];
        (0..200).for_each(|_| seen[drawn(&[(1, 'a'), (1, 'b')])] = true);
        assert_eq!((seen, drawn(&[(0, 'a')])), ([true; 2], 0));
    }
}
