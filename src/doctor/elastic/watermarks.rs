//! The disk watermarks of a cluster, and the disks beside them. Pure.

use std::collections::BTreeMap;

/// How full a disk is, by the watermarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DiskState {
    Fine,
    /// No new shards are placed on the node.
    AboveLow,
    /// Shards are moved away from it.
    AboveHigh,
    /// Every index with a shard there is blocked for writes.
    AboveFloodStage,
}

/// Returns how full a disk is of which this many bytes are available.
pub(super) fn state(total: u64, available: u64, watermarks: &BTreeMap<String, String>) -> DiskState {
    let is_above = |name: &str, default: &str| {
        let value = watermarks.get(name).map_or(default, String::as_str);
        let headroom = watermarks.get(&format!("{name}.max_headroom")).map(String::as_str);
        reserve(total, value, headroom).is_some_and(|reserve| available < reserve)
    };
    if is_above("flood_stage", "95%") {
        DiskState::AboveFloodStage
    } else if is_above("high", "90%") {
        DiskState::AboveHigh
    } else if is_above("low", "85%") {
        DiskState::AboveLow
    } else {
        DiskState::Fine
    }
}

/// Returns the bytes that a watermark wants to be available: of a share, what is left of the disk, but no more than the headroom.
fn reserve(total: u64, value: &str, headroom: Option<&str>) -> Option<u64> {
    let share = match value.strip_suffix('%') {
        Some(percent) => Some(percent.trim().parse::<f64>().ok()? / 100.0),
        None => value.parse::<f64>().ok().filter(|share| *share <= 1.0),
    };
    let Some(share) = share else { return bytes(value) };
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
    let left = (total as f64 * (1.0 - share)).max(0.0).round() as u64;
    Some(headroom.and_then(bytes).map_or(left, |headroom| left.min(headroom)))
}

/// Parses a size as the servers write it: `500mb`; nothing for `-1`, which is no limit.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let units = [("tb", 1_u64 << 40), ("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10), ("b", 1)];
    let (number, unit) = units.into_iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?.to_owned(), size)))?;
    let number: f64 = number.parse().ok().filter(|number| *number >= 0.0)?;
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
    Some((number * unit as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(available: u64, watermarks: &[(&str, &str)]) -> DiskState {
        let watermarks = watermarks.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        state(1_000 << 30, available << 30, &watermarks)
    }

    #[test]
    fn a_disk_is_compared_with_shares_and_sizes() {
        assert_eq!(of(200, &[]), DiskState::Fine);
        assert_eq!(of(149, &[]), DiskState::AboveLow, "the defaults");
        assert_eq!(of(99, &[]), DiskState::AboveHigh);
        assert_eq!(of(49, &[]), DiskState::AboveFloodStage);
        assert_eq!(of(49, &[("flood_stage", "0.97")]), DiskState::AboveHigh);
        assert_eq!(of(9, &[("low", "30gb"), ("high", "20gb"), ("flood_stage", "10gb")]), DiskState::AboveFloodStage);
        let headroom = [("low.max_headroom", "100gb"), ("high.max_headroom", "-1"), ("flood_stage.max_headroom", "20gb")];
        assert_eq!(of(120, &headroom), DiskState::Fine, "no more than the headroom");
        assert_eq!(of(30, &headroom), DiskState::AboveHigh);
        assert_eq!(of(19, &headroom), DiskState::AboveFloodStage);
    }
}
