//! Times in every notation: which are read, which are refused, and that no text panics.

use chrono::{DateTime, Utc};
use moola_core::time::{
    AMBIGUOUS, Fit, LOCAL, NONEXISTENT, NULL, Notation, Order, Pattern, Texts, Tz, UNREADABLE, Zone,
    first_instant, fit_dates, localize, notation, parse, parse_epochs,
};

fn column(texts: &[&str]) -> (Vec<i64>, Vec<u8>) {
    let mut offsets = vec![0];
    let mut data = Vec::new();
    for text in texts {
        data.extend_from_slice(text.as_bytes());
        offsets.push(data.len() as i64);
    }
    (offsets, data)
}

fn read(texts: &[&str], notation: &Notation, zone: Option<Tz>) -> Vec<i64> {
    let (offsets, data) = column(texts);
    parse(Texts::new(&offsets, &data, None).unwrap(), notation, zone.map(Zone::from)).0
}

fn utc(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_nanos_opt().unwrap()
}

fn pattern(format: &str) -> Notation {
    Notation::Pattern(Pattern::new(format).unwrap())
}

fn fit(texts: &[&str]) -> Fit {
    let (offsets, data) = column(texts);
    fit_dates(Texts::new(&offsets, &data, None).unwrap())
}

#[test]
fn iso_is_read_with_every_form_of_offset() {
    let moment = utc("2023-03-01T09:30:00Z");
    for text in [
        "2023-03-01T09:30:00Z",
        "2023-03-01 09:30:00+00:00",
        "2023-03-01 09:30:00 UTC",
        "2023-03-01T10:30:00+01",
        "2023-03-01T10:30+0100",
        " 2023-03-01t04:30:00.000-05:00 ",
        "2023-03-01 15:15:00,0+05:45",
    ] {
        assert_eq!(read(&[text], &Notation::Iso, None), [moment], "{text}");
    }
    assert_eq!(read(&["2023-03-01T09:30:00.123456789Z"], &Notation::Iso, None), [moment + 123_456_789]);
    assert_eq!(read(&["2023-03-01T09:30:00.5Z"], &Notation::Iso, None), [moment + 500_000_000]);
}

#[test]
fn iso_is_strict() {
    for text in [
        "2023-02-29",
        "2023-02-31T00:00Z",
        "2023-13-01",
        "2023-3-01",
        "23-03-01",
        "2023-03-01T24:00Z",
        "2023-03-01T09:60Z",
        "2023-03-01T09:30:60Z",
        "2023-03-01T9:30Z",
        "2023-03-01T09:30:00.Z",
        "2023-03-01T09:30:00.1234567890Z",
        "2023-03-01T09:30:00Z!",
        "2023-03-01T09:30:00+24:00",
        "2023-03-01T09:30:00+1",
        "2023-03-01T",
        "20230301T0930Z",
        "1500-01-01T00:00Z",
        "2300-01-01T00:00Z",
        "é",
    ] {
        assert_eq!(read(&[text], &Notation::Iso, None), [UNREADABLE], "{text}");
    }
}

#[test]
fn local_times_need_a_zone_and_follow_its_rules() {
    let new_york = Some(Tz::America__New_York);
    assert_eq!(read(&["2019-11-05 09:30"], &Notation::Iso, None), [LOCAL]);
    assert_eq!(
        read(
            &["2019-11-05 09:30", "2019-07-05 09:30", "2019-11-03 01:30", "2019-03-10 02:30", "2019-11-05"],
            &Notation::Iso,
            new_york
        ),
        [
            utc("2019-11-05T14:30:00Z"),
            utc("2019-07-05T13:30:00Z"),
            AMBIGUOUS,
            NONEXISTENT,
            utc("2019-11-05T05:00:00Z")
        ]
    );
    let wall = utc("2019-11-03T01:30:00Z");
    assert_eq!(
        localize(&[wall, NULL, wall + 3_600_000_000_000], Tz::America__New_York.into()),
        [AMBIGUOUS, NULL, utc("2019-11-03T07:30:00Z")]
    );
}

#[test]
fn times_without_offset_are_counted() {
    let (offsets, data) = column(&["2019-11-05 09:30", "2019-11-05 09:30Z", ""]);
    let texts = Texts::new(&offsets, &data, None).unwrap();
    assert_eq!(parse(texts, &Notation::Iso, Some(Tz::UTC.into())).1, 1);
}

#[test]
fn empty_texts_and_null_words_are_null() {
    assert_eq!(read(&["", "  ", "NaT", "null"], &Notation::Iso, None), [NULL; 4]);
    let (offsets, data) = column(&["2023-03-01T09:30:00Z"; 2]);
    let texts = Texts::new(&offsets, &data, Some(&[true, false])).unwrap();
    assert_eq!(parse(texts, &Notation::Iso, None).0[0], NULL);
}

#[test]
fn columns_that_reach_beyond_their_data_are_refused() {
    assert!(Texts::new(&[], b"", None).is_none());
    assert!(Texts::new(&[0, 3], b"ab", None).is_none());
    assert!(Texts::new(&[-1, 1], b"ab", None).is_none());
    assert!(Texts::new(&[0, 2, 1], b"ab", None).is_none());
    assert!(Texts::new(&[0, 1], b"ab", Some(&[])).is_none());
}

#[test]
fn slashed_dates_in_each_order() {
    let moment = utc("2019-11-05T09:30:00Z");
    let zone = Some(Tz::UTC);
    for text in ["11/5/2019 9:30", "11/05/2019 09:30:00", "11/5/2019 9:30 AM", "11/5/2019 09:30:00.000 am"] {
        assert_eq!(read(&[text], &Notation::Slashed(Order::MonthFirst), zone), [moment], "{text}");
    }
    assert_eq!(read(&["5/11/2019 9:30"], &Notation::Slashed(Order::DayFirst), zone), [moment]);
    assert_eq!(read(&["2019/11/5 9:30"], &Notation::Slashed(Order::YearFirst), zone), [moment]);
    assert_eq!(
        read(&["11/5/2019 9:30 PM"], &Notation::Slashed(Order::MonthFirst), zone),
        [utc("2019-11-05T21:30:00Z")]
    );
    assert_eq!(
        read(&["11/5/2019 12:30 AM", "11/5/2019"], &Notation::Slashed(Order::MonthFirst), zone),
        [utc("2019-11-05T00:30:00Z"), utc("2019-11-05T00:00:00Z")]
    );
    for text in
        ["2/31/2019 9:30", "11/5/19 9:30", "11/5/2019 9:30x", "11/5/2019 13:30 PM", "11/5/2019 0:30 AM"]
    {
        assert_eq!(read(&[text], &Notation::Slashed(Order::MonthFirst), zone), [UNREADABLE], "{text}");
    }
}

#[test]
fn the_fitting_orders_are_found() {
    assert_eq!(fit(&["5/5/2019", "1/2/2019"]), Fit { misfits: [None, None, Some(0)], differs: Some(1) });
    assert_eq!(fit(&["1/2/2019", "1/13/2019"]), Fit { misfits: [None, Some(1), Some(0)], differs: Some(0) });
    assert_eq!(fit(&["13/1/2019", "x", "1/13/2019"]).misfits, [Some(0), Some(2), Some(0)]);
    assert_eq!(fit(&["2019/1/13"]), Fit { misfits: [Some(0), Some(0), None], differs: None });
    assert_eq!(fit(&["31/31/2019", "", "2/30/2019"]), Fit::default());
}

#[test]
fn patterns_mean_what_strptime_means() {
    let moment = utc("2019-11-05T09:30:00Z");
    for (format, text, expected) in [
        ("%m/%d/%Y %H:%M", "11/5/2019 9:30", moment),
        ("%d.%m.%Y %H:%M:%S", "05.11.2019 09:30:00", moment),
        ("%Y%m%d%H%M", "201911050930", moment),
        ("%Y%m%d %H%M%S%f", "20191105 093000250", moment + 250_000_000),
        ("%Y-%m-%d %H:%M:%S.%f", "2019-11-05 09:30:00.000001", moment + 1_000),
        ("%Y-%m-%dT%H:%M:%S%z", "2019-11-05T10:30:00+0100", moment),
        ("%Y-%m-%dT%H:%M:%S%z", "2019-11-05T09:30:00Z", moment),
        ("%F %T %Z", "2019-11-05 09:30:00 UTC", moment),
        ("%m/%d/%y %I:%M %p", "11/05/19 9:30 am", moment),
        ("%a %d %b %Y %R", "Tue 05 nov 2019 09:30", moment),
        ("%A, %B %e %Y %H:%M", "Tuesday, November  5 2019 09:30", moment),
        ("%Y-%j %H:%M", "2019-309 09:30", moment),
        ("%d%%%m%%%Y", "5%11%2019", utc("2019-11-05T00:00:00Z")),
        ("%%F%F", "%F2019-11-05", utc("2019-11-05T00:00:00Z")),
    ] {
        assert_eq!(read(&[text], &pattern(format), Some(Tz::UTC)), [expected], "{format} {text}");
    }
    for (format, text) in [
        ("%m/%d/%Y", "2/31/2019"),
        ("%m/%d/%Y", "2/3/2019 9:30"),
        ("%m/%d/%Y", "2/3/19"),
        ("%Y-%m-%d %H:%M", "2019-11-05  "),
        ("%a %d %b %Y", "Mon 05 Nov 2019"),
        ("%Y-%j", "2019-366"),
        ("%Y-%m-%d %I:%M %p", "2019-11-05 13:30 PM"),
    ] {
        assert_eq!(read(&[text], &pattern(format), Some(Tz::UTC)), [UNREADABLE], "{format} {text}");
    }
    assert!(Pattern::new("%Y-%m-%d %H:%M%z").unwrap().has_offset());
    assert!(!Pattern::new("%Y-%m-%d %H:%M").unwrap().has_offset());
}

#[test]
fn patterns_that_could_mislead_are_refused() {
    for (format, substance) in [
        ("%Y-%m-%d %Q", "%Q"),
        ("%Y-%m-%", "nothing after %"),
        ("%H:%M", "lacks the year"),
        ("%Y-%d", "lacks the month"),
        ("%Y-%m", "lacks the day"),
        ("%Y-%m-%d %d", "gives the day twice"),
        ("%Y-%m-%d %I:%M", "without %p"),
        ("%Y-%m-%d %H:%M %p", "without %I"),
    ] {
        let error = Pattern::new(format).unwrap_err().to_string();
        assert!(error.starts_with("time_format: ") && error.contains(substance), "{error}");
    }
}

#[test]
fn whole_numbers() {
    let (offsets, data) = column(&[
        "1672531200",
        "-5",
        "1672531200.000",
        "1672531200.5",
        "",
        "+5",
        "1e9",
        "9999999999999999999",
    ]);
    assert_eq!(
        parse_epochs(Texts::new(&offsets, &data, None).unwrap()),
        [1_672_531_200, -5, 1_672_531_200, UNREADABLE, NULL, UNREADABLE, UNREADABLE, UNREADABLE]
    );
}

#[test]
fn notations_are_told_apart() {
    assert_eq!(notation("1672531200000"), Some("epoch"));
    assert_eq!(notation(" 2023-03-01 00:00:00+00:00"), Some("iso"));
    assert_eq!(notation("13/1/2019 9:30"), Some("slashed"));
    assert_eq!(notation("31/31/2019"), None);
    assert_eq!(notation("05.11.2019"), None);
}

proptest::proptest! {
    #[test]
    fn every_instant_survives_being_written(seconds in -5_000_000_000i64..7_000_000_000, nanosecond in 0u32..1_000_000_000) {
        let instant = DateTime::from_timestamp(seconds, nanosecond).unwrap();
        let expected = [instant.timestamp_nanos_opt().unwrap()];
        let iso = instant.to_rfc3339();
        proptest::prop_assert_eq!(read(&[iso.as_str()], &Notation::Iso, None), expected);
        let text = instant.format("%m/%d/%Y %I:%M:%S.%f %p").to_string();
        proptest::prop_assert_eq!(read(&[text.as_str()], &pattern("%m/%d/%Y %I:%M:%S.%f %p"), Some(Tz::UTC)), expected);
        proptest::prop_assert_eq!(read(&[text.as_str()], &Notation::Slashed(Order::MonthFirst), Some(Tz::UTC)), expected);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,24}", numbers in "[0-9/:. TZ+-]{0,24}") {
        for text in [text.as_str(), numbers.as_str()] {
            let _ = (notation(text), fit(&[text]), read(&[text], &pattern("%Y-%m-%d %H:%M:%S.%f%z"), None));
        }
    }
}

#[test]
fn the_first_instant_of_a_local_time() {
    let day = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    for (zone, local, utc) in [
        ("America/New_York", "2024-07-01T00:00:00Z", "2024-07-01T04:00:00Z"),
        ("Asia/Beirut", "2024-03-31T00:00:00Z", "2024-03-30T22:00:00Z"),
        ("America/Havana", "2024-11-03T00:00:00Z", "2024-11-03T04:00:00Z"),
        ("UTC", "2262-04-11T00:00:00Z", "2262-04-11T00:00:00Z"),
    ] {
        let found = first_instant(day(local).timestamp(), zone.parse().unwrap());
        assert_eq!(found, day(utc).timestamp_nanos_opt(), "{zone} {local}");
    }
    for beyond in ["1677-09-20T00:00:00Z", "2262-04-12T00:00:00Z"] {
        assert_eq!(first_instant(day(beyond).timestamp(), Tz::UTC.into()), None);
    }
    assert_eq!(first_instant(i64::MAX, Tz::UTC.into()), None);
}

#[test]
fn offsets_from_utc_are_zones_and_iana_names_keep_their_meaning() {
    let nine = utc("2023-01-03T09:00:00Z");
    for (name, hours) in [
        ("UTC+2", 2.0),
        ("gmt-5", -5.0),
        ("+05:30", 5.5),
        ("UTC-0330", -3.5),
        ("Etc/GMT+2", -2.0),
        ("EST", -5.0),
    ] {
        let zone: Zone = name.parse().unwrap();
        let ahead = (hours * 3600e9) as i64;
        assert_eq!(localize(&[nine], zone), [nine - ahead], "{name}");
        assert_eq!(first_instant(nine / 1_000_000_000, zone), Some(nine - ahead), "{name}");
    }
    for name in ["", "UTC+", "ET", "UTC+25", "UTC+2:60", "UTC+2x", "+-2", "America/New York"] {
        assert!(name.parse::<Zone>().is_err(), "{name}");
    }
    assert_eq!(read(&["2023-01-03T11:00:00 GMT+0200"], &Notation::Iso, None), [nine]);
    assert_eq!(read(&["03.01.2023 11:00 GMT+0200"], &pattern("%d.%m.%Y %H:%M %Z"), None), [nine]);
    assert_eq!(read(&["03.01.2023 11:00 +0200"], &pattern("%d.%m.%Y %H:%M %Z"), None), [UNREADABLE]);
}
