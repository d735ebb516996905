use super::*;
use crate::top::keys::Key;

fn host(n: usize) -> Host {
    Host {
        name: format!("pds{n}.example.com"),
        state: Some("active".to_owned()),
        accounts: Some(1_000 + n as u64),
        account_limit: Some(2_000),
        events_per_second: Some(100.0 - n as f64),
        rejected_per_second: Some(0.0),
        lag_ms: Some(250),
        ..Host::default()
    }
}

fn snapshot(hosts: usize) -> Snapshot {
    Snapshot {
        version: Some("0.1.0".to_owned()),
        uptime_seconds: Some(4 * 86_400),
        events_per_second: Some(612.34),
        rejected_per_second: Some(1.0),
        delay_p50_ms: Some(210),
        delay_p99_ms: Some(1_400),
        states: [("active".to_owned(), 2_600), ("offline".to_owned(), 150)].into(),
        subscribers: Some(12),
        last_seq: Some(123_456_789),
        oldest_seq: Some(1),
        window_seconds: Some(72 * 3_600),
        hosts: (0..hosts).map(host).collect(),
        ..Snapshot::default()
    }
}

fn frame<'a>(snapshot: &'a Snapshot, state: &'a State, columns: usize, rows: usize) -> Frame<'a> {
    Frame {
        relay: "http://localhost:3000",
        snapshot: Some(snapshot),
        error: None,
        state,
        charset: Charset::Unicode,
        columns,
        rows: Some(rows),
    }
}

fn texts(view: &View) -> Vec<&str> {
    view.lines.iter().map(|line| line.text.as_str()).collect()
}

#[test]
fn a_wide_terminal_shows_everything() {
    let (snapshot, state) = (snapshot(3), State::default());
    let view = draw(&frame(&snapshot, &state, 120, 12));
    let expected = [
        "zlay 0.1.0   http://localhost:3000   up 4d",
        "events/s 612   rejected/s 1.0   delay p50 0.2s p99 1.4s",
        "hosts 2,750: 2,600 active, 150 offline   subscribers 12",
        "last seq 123,456,789   window 3d from seq 1",
        "HOST             STATE               ACCOUNTS/LIMIT EVENTS/S REJECTED/S    LAG LAST ERROR",
        "pds0.example.com active                 1,000/2,000      100        0.0   0.2s",
        "pds1.example.com active                 1,001/2,000     99.0        0.0   0.2s",
        "pds2.example.com active                 1,002/2,000     98.0        0.0   0.2s",
        "",
        "",
        "",
        "q quit   s sort (by events/s)   f failing only   arrows, page up/down scroll   1-3 of 3",
    ];
    assert_eq!(texts(&view), expected);
    assert_eq!((view.page, view.total), (6, 3));
}

#[test]
fn a_narrow_one_shows_what_matters() {
    let (mut snapshot, state) = (snapshot(1), State::default());
    snapshot.hosts[0].name = "a-very-long-name-of-a-host.example.com".to_owned();
    let view = draw(&frame(&snapshot, &state, 26, 24));
    let lines = texts(&view);
    assert_eq!(lines[0], "zlay 0.1.0");
    assert_eq!(lines[1], "http://localhost:3000");
    let title = lines
        .iter()
        .position(|line| line.starts_with("HOST"))
        .unwrap();
    assert_eq!(lines[title], "HOST              EVENTS/S");
    assert_eq!(lines[title + 1], "a-very-long-name…      100");
}

#[test]
fn nothing_is_ever_wider_or_higher_than_the_terminal() {
    let mut snapshot = snapshot(40);
    snapshot.hosts[0].name = "日本語".repeat(20);
    snapshot.hosts[1].last_error = Some("x\u{1b}[2J ".repeat(99));
    snapshot.hosts[1].state = Some("offline".to_owned());
    let mut state = State::default();
    state.history.extend((0..60).map(f64::from));
    for charset in [Charset::Unicode, Charset::Ascii] {
        for columns in 0..200 {
            for rows in [0, 1, 2, 5, 9, 24, 60] {
                let error = "can not reach it: Connection refused";
                let view = draw(&Frame {
                    error: Some(error),
                    charset,
                    ..frame(&snapshot, &state, columns, rows)
                });
                assert!(view.lines.len() <= rows);
                for line in &view.lines {
                    assert!(width(&line.text) <= columns.max(1), "{columns}: {line:?}");
                    assert!(!line.text.contains(char::is_control), "{line:?}");
                    assert!(
                        charset == Charset::Unicode || line.text.is_ascii(),
                        "{line:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_height_is_filled_and_scrolled_through() {
    let (snapshot, mut state) = (snapshot(100), State::default());
    let view = draw(&frame(&snapshot, &state, 100, 24));
    assert_eq!((view.lines.len(), view.page, view.total), (24, 18, 100));
    assert!(texts(&view)[5].starts_with("pds0."));
    assert!(texts(&view)[23].ends_with("1-18 of 100"));
    state.press(Key::PageDown, view.page, view.total);
    let view = draw(&frame(&snapshot, &state, 100, 24));
    assert!(texts(&view)[5].starts_with("pds18."));
    state.press(Key::End, view.page, view.total);
    // A terminal that has become higher shows more before the end, not nothing behind it.
    let view = draw(&frame(&snapshot, &state, 100, 44));
    assert!(texts(&view)[43].ends_with("63-100 of 100"));
}

#[test]
fn hosts_that_are_not_there_yet_are_counted() {
    let mut snapshot = snapshot(20);
    snapshot.matching = Some(2_750);
    let mut state = State::default();
    let view = draw(&frame(&snapshot, &state, 100, 24));
    assert_eq!(view.total, 2_750);
    state.press(Key::PageDown, view.page, view.total);
    let view = draw(&frame(&snapshot, &state, 100, 24));
    assert!(texts(&view)[5].starts_with("pds18."));
    assert_eq!(texts(&view)[7], "");
    assert!(texts(&view)[23].ends_with("19-36 of 2,750"));
    state.press(Key::End, view.page, view.total);
    let view = draw(&frame(&snapshot, &state, 100, 24));
    assert_eq!(texts(&view)[5], "");
    assert!(texts(&view)[23].ends_with("2733-2750 of 2,750"));
    assert_eq!(state.wish(18).hosts, Some(2_732 + 36));
}

#[test]
fn what_is_not_known_is_a_dash() {
    let snapshot = Snapshot {
        hosts: vec![Host {
            name: "a.example".to_owned(),
            ..Host::default()
        }],
        ..Snapshot::default()
    };
    let state = State::default();
    let view = draw(&frame(&snapshot, &state, 90, 10));
    let lines = texts(&view);
    assert_eq!(lines[0], "zlay -   http://localhost:3000   up -");
    assert_eq!(lines[1], "events/s -   rejected/s -   delay p50 - p99 -");
    assert_eq!(lines[2], "hosts connected -   subscribers -");
    let cells: Vec<&str> = lines[5].split_whitespace().collect();
    assert_eq!(cells, ["a.example", "-", "-", "-", "-", "-"]);
}

#[test]
fn plain_text_has_every_host_and_no_keys() {
    let (snapshot, state) = (snapshot(100), State::default());
    let view = draw(&Frame {
        rows: None,
        ..frame(&snapshot, &state, 160, 0)
    });
    assert_eq!(view.lines.len(), 5 + 100);
    assert!(!texts(&view).iter().any(|line| line.contains("quit")));
}

#[test]
fn failing_hosts_and_errors_stand_out() {
    let mut snapshot = snapshot(2);
    snapshot.hosts[1].state = Some("offline".to_owned());
    snapshot.hosts[1].last_error = Some("Connection refused".to_owned());
    let mut state = State::default();
    state.press(Key::Failing, 9, 2);
    let view = draw(&Frame {
        error: Some("no answer in time"),
        ..frame(&snapshot, &state, 120, 12)
    });
    let of = |style| view.lines.iter().find(|line| line.style == style).unwrap();
    assert_eq!(of(Style::Alarm).text, "no answer in time");
    assert!(
        of(Style::Failing)
            .text
            .starts_with("pds1.example.com offline")
    );
    assert!(of(Style::Failing).text.ends_with("Connection refused"));
    assert!(of(Style::Faint).text.contains("f all hosts"));
    assert_eq!(view.total, 1);
}

#[test]
fn a_full_disk_is_said() {
    let mut snapshot = snapshot(1);
    snapshot.disk_full = Some(FullDisk {
        free_bytes: Some((5 << 20) - 1),
        needed_bytes: Some((2_000 << 20) + 1),
    });
    let state = State::default();
    let view = draw(&Frame {
        error: Some("no answer in time"),
        ..frame(&snapshot, &state, 120, 12)
    });
    let alarms = view.lines.iter().filter(|line| line.style == Style::Alarm);
    let alarms: Vec<&str> = alarms.map(|line| line.text.as_str()).collect();
    let full = "no new events: the disk is full, 4 MiB are free, 2,001 MiB are needed";
    assert_eq!(alarms, [full, "no answer in time"]);
    assert_eq!(view.lines.len(), 12);
}

#[test]
fn a_sparkline_is_relative_to_its_largest_value() {
    let drawn = |values: &[f64], charset| sparkline(values.iter().copied(), charset);
    assert_eq!(drawn(&[0.0, 50.0, 100.0], Charset::Unicode), "▁▅█");
    assert_eq!(drawn(&[0.0, 50.0, 100.0], Charset::Ascii), "_=#");
    assert_eq!(drawn(&[0.0, 0.0], Charset::Unicode), "▁▁");
    assert_eq!(drawn(&[f64::NAN, 1.0], Charset::Unicode), "▁█");
    assert_eq!(drawn(&[], Charset::Unicode), "");
}
