//! Times as callers give them: an instant with its offset, or a wall-clock time with its zone. A naive time is refused.

use jiff::{Timestamp, Zoned, civil::DateTime, tz::TimeZone};
use social_core::store::WallTime;

use crate::views::ViolationView;

/// When a post is to go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct When {
    /// The instant.
    pub(crate) at: Timestamp,
    /// The wish behind it, if it was a wall-clock time.
    pub(crate) wall: Option<WallTime>,
}

/// Reads the three fields; all absent means at once.
pub(crate) fn read(
    scheduled_time: Option<&str>,
    local_time: Option<&str>,
    time_zone: Option<&str>,
) -> Result<Option<When>, Box<ViolationView>> {
    match (scheduled_time, local_time, time_zone) {
        (None, None, None) => Ok(None),
        (Some(_), Some(_), _) => {
            Err(wrong("time_twice", "local_time", "both scheduled_time and local_time are given", "Give one of them."))
        }
        (Some(_), None, Some(_)) => Err(wrong(
            "time_twice",
            "time_zone",
            "time_zone goes with local_time; scheduled_time carries its own offset",
            "Leave time_zone out, or send local_time instead of scheduled_time.",
        )),
        (Some(raw), None, None) => instant(raw).map(Some),
        (None, Some(raw), Some(zone)) => wall(raw, zone).map(Some),
        (None, Some(_), None) => Err(wrong(
            "time_zone_missing",
            "time_zone",
            "local_time needs a time_zone",
            "Add an IANA zone such as Europe/Berlin.",
        )),
        (None, None, Some(_)) => Err(wrong(
            "local_time_missing",
            "local_time",
            "time_zone needs a local_time",
            "Add a local time such as 2026-11-22T09:00, or leave time_zone out.",
        )),
    }
}

fn instant(raw: &str) -> Result<When, Box<ViolationView>> {
    let raw = raw.trim();
    let refuse = |code: &str, message: String, advice: &str| wrong(code, "scheduled_time", message, advice);
    // RFC 9557: an instant that names its zone too.
    if raw.contains('[') {
        let zoned: Zoned = raw.parse().map_err(|_| {
            refuse(
                "time_invalid",
                format!("{} is no time with a zone", shown(raw)),
                "Send a time such as 2026-11-22T09:00:00+01:00.",
            )
        })?;
        let name = zoned.time_zone().iana_name();
        let wall = name.map(|name| WallTime { local_time: zoned.datetime().to_string(), time_zone: name.to_owned() });
        return Ok(When { at: zoned.timestamp(), wall });
    }
    if let Ok(at) = raw.parse::<Timestamp>() {
        return Ok(When { at, wall: None });
    }
    if raw.parse::<DateTime>().is_ok() {
        let message = format!("{} has no time zone, so it names no instant", shown(raw));
        let advice = "Add an offset such as Z or +01:00, or send local_time together with time_zone.";
        return Err(refuse("time_naive", message, advice));
    }
    let message = format!("{} is not a time as RFC 3339 writes it", shown(raw));
    Err(refuse("time_invalid", message, "Send a time such as 2026-11-22T09:00:00+01:00."))
}

fn wall(raw: &str, zone: &str) -> Result<When, Box<ViolationView>> {
    let (raw, zone) = (raw.trim(), zone.trim());
    let zoned = raw.parse::<Timestamp>().is_ok() || raw.contains('[');
    if zoned {
        return Err(wrong(
            "time_twice",
            "local_time",
            format!("{} carries an offset of its own", shown(raw)),
            "Leave the offset out of local_time, or send it as scheduled_time without time_zone.",
        ));
    }
    let local: DateTime = raw.parse().map_err(|_| {
        let message = format!("{} is not a local time", shown(raw));
        wrong("time_invalid", "local_time", message, "Send a time such as 2026-11-22T09:00.")
    })?;
    let unknown = || {
        let message = format!("there is no time zone named {}", shown(zone));
        wrong("time_zone_unknown", "time_zone", message, "Use a name such as Europe/Berlin or America/New_York.")
    };
    // Abbreviations such as EST are names of the database too, but mean no place with rules.
    let zone = TimeZone::get(zone).map_err(|_| unknown())?;
    let name = zone.iana_name().ok_or_else(unknown)?.to_owned();
    // A time that a clock change skips moves forward by the length of the gap; of two the first is meant.
    let at = zone.to_ambiguous_timestamp(local).compatible().map_err(|_| unknown())?;
    Ok(When { at, wall: Some(WallTime { local_time: raw.to_owned(), time_zone: name }) })
}

fn wrong(code: &str, field: &str, message: impl Into<String>, advice: &str) -> Box<ViolationView> {
    Box::new(ViolationView::error(code, field, message, advice))
}

/// What the caller sent, shortened.
fn shown(raw: &str) -> String {
    let short: String = raw.chars().take(40).collect();
    format!("\"{short}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(scheduled: Option<&str>, local: Option<&str>, zone: Option<&str>) -> Result<String, String> {
        match read(scheduled, local, zone) {
            Ok(Some(when)) => Ok(when.at.to_string()),
            Ok(None) => Ok("now".to_owned()),
            Err(violation) => Err(format!("{} {}", violation.field, violation.code)),
        }
    }

    #[test]
    fn instants_are_read_with_their_offset_and_naive_times_are_refused() {
        for (raw, expected) in [
            ("2026-11-22T09:00:00Z", Ok("2026-11-22T09:00:00Z")),
            ("2026-11-22T09:00:00+01:00", Ok("2026-11-22T08:00:00Z")),
            ("2026-11-22T09:00:00.250-05:30", Ok("2026-11-22T14:30:00.25Z")),
            ("2026-11-22T09:00+01:00[Europe/Berlin]", Ok("2026-11-22T08:00:00Z")),
            ("2026-11-22T09:00:00", Err("scheduled_time time_naive")),
            ("2026-11-22T09:00", Err("scheduled_time time_naive")),
            ("2026-11-22 09:00", Err("scheduled_time time_naive")),
            ("2026-11-22", Err("scheduled_time time_naive")),
            ("2026-02-30T09:00:00Z", Err("scheduled_time time_invalid")),
            ("tomorrow", Err("scheduled_time time_invalid")),
            ("1795345200", Err("scheduled_time time_invalid")),
            ("", Err("scheduled_time time_invalid")),
            ("2026-11-22T09:00+05:00[Europe/Berlin]", Err("scheduled_time time_invalid")),
        ] {
            assert_eq!(at(Some(raw), None, None), expected.map(str::to_owned).map_err(str::to_owned), "{raw}");
        }
    }

    #[test]
    fn wall_times_follow_the_rules_of_their_zone() {
        for (local, zone, expected) in [
            ("2026-11-22T09:00", "Europe/Berlin", Ok("2026-11-22T08:00:00Z")),
            ("2026-07-22T09:00", "Europe/Berlin", Ok("2026-07-22T07:00:00Z")),
            // Skipped: forward by the length of the gap.
            ("2027-03-28T02:30", "Europe/Berlin", Ok("2027-03-28T01:30:00Z")),
            ("2027-03-14T02:30", "America/New_York", Ok("2027-03-14T07:30:00Z")),
            ("2026-10-04T02:15", "Australia/Lord_Howe", Ok("2026-10-03T15:45:00Z")),
            // Twice: the first.
            ("2026-10-25T02:30", "Europe/Berlin", Ok("2026-10-25T00:30:00Z")),
            ("2026-11-01T01:30", "America/New_York", Ok("2026-11-01T05:30:00Z")),
            ("2026-11-22T09:00", "Asia/Kolkata", Ok("2026-11-22T03:30:00Z")),
            ("2026-11-22T09:00", "Asia/Kathmandu", Ok("2026-11-22T03:15:00Z")),
            ("2026-11-22T09:00", "UTC", Ok("2026-11-22T09:00:00Z")),
            ("2026-11-22T09:00", "europe/berlin", Ok("2026-11-22T08:00:00Z")),
            ("2026-11-22T09:00Z", "Europe/Berlin", Err("local_time time_twice")),
            ("2026-11-22T09:00+01:00", "Europe/Berlin", Err("local_time time_twice")),
            ("soon", "Europe/Berlin", Err("local_time time_invalid")),
            ("2026-11-22T09:00", "Europe/Berlim", Err("time_zone time_zone_unknown")),
            ("2026-11-22T09:00", "+01:00", Err("time_zone time_zone_unknown")),
            ("2026-11-22T09:00", "", Err("time_zone time_zone_unknown")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(at(None, Some(local), Some(zone)), expected, "{local} {zone}");
        }
        let when = read(None, Some("2026-11-22T09:00"), Some("europe/berlin")).unwrap().unwrap();
        let wall = WallTime { local_time: "2026-11-22T09:00".into(), time_zone: "Europe/Berlin".into() };
        assert_eq!(when.wall, Some(wall));
    }

    #[test]
    fn fields_that_do_not_go_together_are_named() {
        let instant = Some("2026-11-22T09:00:00Z");
        assert_eq!(at(None, None, None), Ok("now".into()));
        assert_eq!(at(instant, Some("2026-11-22T09:00"), None), Err("local_time time_twice".into()));
        assert_eq!(at(instant, None, Some("UTC")), Err("time_zone time_twice".into()));
        assert_eq!(at(None, Some("2026-11-22T09:00"), None), Err("time_zone time_zone_missing".into()));
        assert_eq!(at(None, None, Some("UTC")), Err("local_time local_time_missing".into()));
    }
}
