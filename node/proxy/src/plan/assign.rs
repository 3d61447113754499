use crate::model::Endpoint;

/// Puts `wanted` into an order in which as few as possible stand elsewhere than in `before`:
/// who stays keeps the place, newcomers fill the gaps, and what is left of the tail moves up.
pub(super) fn keep_order(before: &[Endpoint], wanted: &mut [Endpoint]) {
    wanted.sort_unstable();
    if before.is_empty() {
        return;
    }
    let mut places: Vec<Option<Endpoint>> = vec![None; wanted.len()];
    let mut stays = vec![false; wanted.len()];
    for (place, old) in places.iter_mut().zip(before) {
        let found = wanted.binary_search_by_key(&(old.ip, old.port), |endpoint| (endpoint.ip, endpoint.port));
        if let Ok(at) = found
            && !stays[at]
        {
            stays[at] = true;
            *place = Some(wanted[at]);
        }
    }
    let moving: Vec<Endpoint> = wanted
        .iter()
        .zip(stays)
        .filter(|(_, stays)| !stays)
        .map(|(endpoint, _)| *endpoint)
        .collect();
    let mut moving = moving.into_iter();
    for (slot, place) in wanted.iter_mut().zip(places) {
        if let Some(endpoint) = place.or_else(|| moving.next()) {
            *slot = endpoint;
        }
    }
}
