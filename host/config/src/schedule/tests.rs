use super::*;
use crate::scratch::Scratch;
use crate::trust;
use agenthost_core::limits::Cap;
use serde_json::json;

const HOUR: u64 = 3_600_000;
/// Monday, the first of January 2024.
const MONDAY: u64 = SOME_TIME;

fn cron(text: &str) -> ScheduleTimes {
    ScheduleTimes::Cron(text.parse().unwrap())
}

fn complaint(lines: &str) -> String {
    Scratch::project(&format!("[schedules.tidy]\nplugin = 'a'\n{lines}")).complaint()
}

#[test]
fn every_setting_is_read() {
    let scratch = Scratch::project(
        "[schedules.morning]\ncron = '0 8 * * 1-5'\nplugin = 'demo:heartbeat'\n\
         input = { task = 'x', n = 3, deep = { list = [1.5, true] } }\n\
         set = { checklist = '@HEARTBEAT.md', at = '@@home', n = 4 }\nchecklist = 'HEARTBEAT.md'\nwatch = ['inbox.md']\n\
         unchanged = 'run'\nlimits = { cost = '$0.05', tokens = '20k' }\ncost-per-day = 0.4\noverlap = 'wait'\n\
         missed = 'once'\nenabled = false\n\
         [schedules.other]\nevery = '90m'\nplugin = './p'\ninput = 'in.json'\ncost-per-day = '$1'\n",
    );
    let config = scratch.load();
    let morning = &config.schedules()["morning"];
    assert_eq!(morning.times, cron("0 8 * * 1-5"));
    assert_eq!(morning.plugin, "demo:heartbeat");
    let input = json!({"task": "x", "n": 3, "deep": {"list": [1.5, true]}});
    assert_eq!(morning.input, Some(ScheduleInput::Value(input)));
    let list = scratch.path("project/HEARTBEAT.md");
    assert_eq!(morning.set["checklist"], ScheduleValue::File(list.clone()));
    assert_eq!(morning.set["at"], ScheduleValue::Value(json!("@home")));
    assert_eq!(morning.set["n"], ScheduleValue::Value(json!(4)));
    assert_eq!((morning.checklist.as_ref(), morning.watch.len()), (Some(&list), 1));
    assert_eq!(
        (morning.limits().cost, morning.limits().tokens),
        (Some(Cap::At("$0.05".parse().unwrap())), Some(Cap::At(20_000)))
    );
    assert_eq!(
        (morning.unchanged, morning.overlap, morning.missed, morning.enabled),
        (WhenUnchanged::Run, WhenOverlapping::Wait, WhenMissed::Once, false)
    );
    assert_eq!(morning.origin.line(), 1);
    let other = &config.schedules()["other"];
    assert_eq!(other.times, ScheduleTimes::Every(Duration::from_secs(5_400)));
    assert_eq!(
        (other.unchanged, other.overlap, other.missed, other.enabled),
        (WhenUnchanged::Skip, WhenOverlapping::Skip, WhenMissed::Skip, true)
    );
    assert_eq!(other.input, Some(ScheduleInput::File(scratch.path("project/in.json"))));
    assert_ne!(morning.digest(), other.digest());
}

#[test]
fn every_mistake_is_named() {
    for (lines, expected) in [
        (
            "every = '1h'",
            "agenthost.toml:1: `tidy` in [schedules]: it has no `cost-per-day`\n\
             Write the most that its runs of one day may cost, such as cost-per-day = \"$0.40\".",
        ),
        (
            "every = '1h'\ncost-per-day = 'none'",
            "agenthost.toml:4: `cost-per-day` in [schedules.tidy]: a schedule must have a limit on its cost\n\
             Write the most that its runs of one day may cost, such as cost-per-day = \"$0.40\".",
        ),
        (
            "every = '1h'\ncost-per-day = 0",
            "agenthost.toml:4: `cost-per-day` in [schedules.tidy]: it must be more than zero\n\
             Write the most that its runs of one day may cost, such as cost-per-day = \"$0.40\".",
        ),
        (
            "every = '1h'\ncost-per-day = 1\ncron = '0 8 * * *'",
            "agenthost.toml:5: `cron` in [schedules.tidy]: there is an `every` too; write one of them\n\
             Write every = \"30m\", or cron = \"0 8 * * 1-5\" for 8:00 UTC on weekdays.",
        ),
        (
            "cost-per-day = 1",
            "agenthost.toml:1: `tidy` in [schedules]: it has neither `every` nor `cron`\n\
             Write every = \"30m\", or cron = \"0 8 * * 1-5\" for 8:00 UTC on weekdays.",
        ),
        (
            "every = '500ms'\ncost-per-day = 1",
            "agenthost.toml:3: `every` in [schedules.tidy]: it must be at least 1s\n\
             Write every = \"30m\", or cron = \"0 8 * * 1-5\" for 8:00 UTC on weekdays.",
        ),
        (
            "cron = '0 0 30 2 *'\ncost-per-day = 1",
            "agenthost.toml:3: `cron` in [schedules.tidy]: no time matches `0 0 30 2 *`\n\
             Write every = \"30m\", or cron = \"0 8 * * 1-5\" for 8:00 UTC on weekdays.",
        ),
    ] {
        assert_eq!(complaint(lines), expected);
    }
    for (lines, expected) in [
        ("overlap = 'queue'", "`queue` is not known; write skip or wait"),
        ("missed = 'all'", "`all` is not known; write skip or once"),
        ("unchanged = 'ask'", "`ask` is not known; write skip or run"),
        (
            "limits = { money = 1 }",
            "unknown key `money` in [schedules.tidy.limits]",
        ),
        ("limits = { tokens = 'many' }", "`tokens` in [schedules.tidy.limits]: "),
        ("input = 3", "a string or a table"),
        ("set = 'x'", "a table"),
        ("input = { n = nan }", "JSON has no such number"),
    ] {
        let said = complaint(&format!("every = '1h'\ncost-per-day = 1\n{lines}"));
        assert!(said.contains(expected), "{expected}: {said}");
    }
    for text in ["* * * * * *", "* * *", "61 * * * *", "", "x"] {
        let said = complaint(&format!("cron = '{text}'\ncost-per-day = 1"));
        assert!(said.contains(&format!("`{text}` is not a cron expression: ")), "{said}");
    }
    let said = Scratch::project("[schedules.Tidy]\nplugin = 'a'").complaint();
    assert!(said.contains("`Tidy` is not the name of a schedule"), "{said}");
}

#[test]
fn cron_expressions_are_in_utc() {
    let at_eight = cron("0 8 * * 1-5");
    assert_eq!(at_eight.next(MONDAY), Some(MONDAY + 8 * HOUR));
    assert_eq!(
        at_eight.next(MONDAY + 8 * HOUR),
        Some(MONDAY + 32 * HOUR),
        "strictly after"
    );
    let friday = MONDAY + 4 * DAY + 8 * HOUR;
    assert_eq!(at_eight.next(friday), Some(friday + 3 * DAY), "not on a weekend");
    // The day of the change to summer time in many zones has all of its hours, once.
    let last_of_march = 1_711_843_200_000; // 2024-03-31
    let hourly = cron("30 * * * *");
    let mut at = last_of_march;
    for hour in 0..24 {
        at = hourly.next(at).unwrap();
        assert_eq!(at, last_of_march + hour * HOUR + HOUR / 2);
    }
    let leap_day = cron("0 0 29 2 *").next(MONDAY + 90 * DAY).unwrap();
    assert_eq!(utc_date(leap_day), (2028, 2, 29));
    for second in [0, 1, 951_782_399, 951_782_400, 1_709_164_799, 4_102_444_800] {
        let time = UtcSecond(second);
        let Ok(Resolution::Single(same)) = time.resolve_civil(time.to_civil()) else {
            panic!("{second}");
        };
        assert_eq!(same, time);
    }
}

#[test]
fn the_last_time_of_a_series_is_found_at_once() {
    let every = ScheduleTimes::Every(Duration::from_secs(1_800));
    assert_eq!(every.last(10, 1_800_009), None);
    assert_eq!(every.last(10, 1_800_010), Some(1_800_010));
    // A year of sleep is one step.
    assert_eq!(every.last(0, 365 * DAY + 5), Some(365 * DAY));
    let at_eight = cron("0 8 * * *");
    assert_eq!(at_eight.last(MONDAY, MONDAY + 7 * HOUR), None);
    assert_eq!(at_eight.last(MONDAY, MONDAY + 8 * HOUR), Some(MONDAY + 8 * HOUR));
    assert_eq!(
        at_eight.last(MONDAY, MONDAY + 60 * DAY),
        Some(MONDAY + 59 * DAY + 8 * HOUR)
    );
}

#[test]
fn the_runs_of_a_day_are_counted() {
    let every = |seconds| ScheduleTimes::Every(Duration::from_secs(seconds)).per_day(MONDAY);
    assert_eq!([every(1_800), every(25_200), every(200_000)], [48, 4, 1]);
    for (text, count) in [
        ("0 8 * * 1-5", 1),
        ("*/15 * * * *", 96),
        ("* * * * *", 1_440),
        ("0 3,15 1 * *", 2),
        ("0 3,15 29 2 *", 2),
    ] {
        assert_eq!(cron(text).per_day(MONDAY + 12 * HOUR), count, "{text}");
    }
}

#[test]
fn a_project_replaces_a_schedule_only_if_that_is_accepted() {
    let own = "[schedules.tidy]\nevery = '1h'\nplugin = 'own'\ncost-per-day = 1\n[schedules.mine]\nevery = '1h'\n\
               plugin = 'own'\ncost-per-day = 1\ninput = '/srv/input.json'";
    let theirs = "[schedules.tidy]\ncron = '0 8 * * *'\nplugin = 'theirs'\ncost-per-day = 2";
    let scratch = Scratch::project(theirs).user(own);
    let config = scratch.load();
    assert_eq!(config.schedules()["tidy"].plugin, "theirs");
    assert!(config.origin("schedules.tidy.every").is_none());
    assert!(
        trust::check_schedule(&config, "mine").is_ok(),
        "it is the operator's own"
    );
    let refused = trust::check_schedule(&config, "tidy").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "agenthost.toml:1: the schedule `tidy` would run theirs at \"0 8 * * *\" UTC for at most $2.00 a day"
    );
    let file = scratch.path("project/agenthost.toml");
    let record = trust::accept(&scratch.env(), &file).unwrap();
    assert_eq!(record.schedules.len(), 1);
    assert!(trust::check_schedule(&config, "tidy").is_ok());
    scratch.write("project/agenthost.toml", &theirs.replace("= 2", "= 3"));
    assert!(
        trust::check_schedule(&scratch.load(), "tidy").is_err(),
        "it has changed"
    );
    assert!(trust::revoke(&scratch.env(), &file).unwrap());
    assert!(trust::check_schedule(&config, "tidy").is_err());
}
