//! Reading the kernel's text files; pure.

/// Counts `0-3,6` as 5.
pub(super) fn cpu_list(text: &str) -> u32 {
    let part = |part: &str| -> Option<u32> {
        match part.split_once('-') {
            Some((first, last)) => Some(
                last.parse::<u32>()
                    .ok()?
                    .checked_sub(first.parse::<u32>().ok()?)?
                    + 1,
            ),
            None => part.parse::<u32>().ok().map(|_| 1),
        }
    };
    text.trim().split(',').filter_map(part).sum()
}

/// A field of `/proc/meminfo`, in bytes.
pub(super) fn meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split(':').next() == Some(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Existing tasks out of `/proc/loadavg` (`0.1 0.2 0.3 2/345 6789`).
pub(super) fn tasks(text: &str) -> u64 {
    let field = text
        .split_whitespace()
        .nth(3)
        .and_then(|field| field.split_once('/'));
    field.and_then(|(_, all)| all.parse().ok()).unwrap_or_default()
}

/// `PRETTY_NAME` of os-release, or `Linux`.
pub(super) fn os_name(text: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.map_or_else(
        || "Linux".to_owned(),
        |value| value.trim().trim_matches(['"', '\'']).to_owned(),
    )
}

/// Bytes of a page out of `hugepages-2048kB`.
pub(super) fn huge_page_size(name: &str) -> Option<u64> {
    let kib: u64 = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    Some(kib * 1024)
}
