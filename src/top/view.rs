//! What the terminal shows: a snapshot, what was chosen and a size make lines. Pure.

use super::{
    cells::{Charset, clean, cut, left, rate, right, span, thousands, width},
    snapshot::{FullDisk, Host, Snapshot},
    state::State,
};

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Style {
    Plain,
    /// The names of the columns.
    Head,
    /// A host that fails.
    Failing,
    /// What is wrong.
    Alarm,
    /// What the keys do.
    Faint,
}

/// A line, never wider than was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) style: Style,
    pub(super) text: String,
}

/// What all lines are made of.
#[derive(Clone, Debug)]
pub(super) struct Frame<'a> {
    /// Where the relay is.
    pub(super) relay: &'a str,
    /// The last answer, if there was one.
    pub(super) snapshot: Option<&'a Snapshot>,
    /// Why there is no newer one.
    pub(super) error: Option<&'a str>,
    pub(super) state: &'a State,
    pub(super) charset: Charset,
    pub(super) columns: usize,
    /// The height; none shows every host and no keys.
    pub(super) rows: Option<usize>,
}

/// Lines for one moment, and how many hosts fit into them, and how many there are.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) lines: Vec<Line>,
    pub(super) page: usize,
    pub(super) total: usize,
}

/// Lines at the end that are not hosts.
const FOOTER_ROWS: usize = 1;

/// Draws; at most `rows` lines of at most `columns`.
pub(super) fn draw(frame: &Frame<'_>) -> View {
    let mut lines = head(frame);
    let nothing = Snapshot::default();
    let snapshot = frame.snapshot.unwrap_or(&nothing);
    let hosts = frame.state.arrange(&snapshot.hosts);
    let matching = snapshot.matching.and_then(|n| usize::try_from(n).ok());
    let total = hosts.len().max(matching.unwrap_or(0));
    let page = match frame.rows {
        Some(rows) => rows.saturating_sub(lines.len() + 1 + FOOTER_ROWS),
        None => hosts.len(),
    };
    // What is further down than was asked for is blank until the next answer.
    let first = frame.state.first.min(total.saturating_sub(page));
    let shown = &hosts[first.min(hosts.len())..(first + page).min(hosts.len())];
    let columns = Columns::fit(frame.columns, shown);
    let mut add = |style, text: String| lines.push(Line { style, text });
    add(Style::Head, columns.titles(frame.charset));
    for host in shown {
        let style = match host.is_failing() {
            true => Style::Failing,
            false => Style::Plain,
        };
        add(style, columns.row(host, frame.charset));
    }
    if let Some(rows) = frame.rows {
        for _ in shown.len()..page {
            add(Style::Plain, String::new());
        }
        add(Style::Faint, footer(frame, first, page.min(total), total));
        lines.truncate(rows);
    }
    View { lines, page, total }
}

fn head(frame: &Frame<'_>) -> Vec<Line> {
    let nothing = Snapshot::default();
    let now = frame.snapshot.unwrap_or(&nothing);
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let number = |value: Option<u64>| text(value.map(thousands));
    let per_second = |value: Option<f64>| text(value.map(rate));
    let ms = |value: Option<u64>| text(value.map(span));
    let up = ms(now.uptime_seconds.map(|s| s.saturating_mul(1_000)));
    let version = text(now.version.clone());
    let mut events = format!("events/s {}", per_second(now.events_per_second));
    let drawn = sparkline(frame.state.history.iter().copied(), frame.charset);
    if !drawn.is_empty() {
        // The latest values, as many as leave room for the rest.
        let room = (frame.columns / 4).min(30);
        let skip = drawn.chars().count().saturating_sub(room);
        events.push(' ');
        events.extend(drawn.chars().skip(skip));
    }
    let mut subscribers = format!("subscribers {}", number(now.subscribers));
    if let Some(lag) = now.subscriber_lag {
        subscribers += &format!(" (furthest behind: {} events)", thousands(lag));
    }
    let window = ms(now.window_seconds.map(|s| s.saturating_mul(1_000)));
    let blocks = [
        vec![
            format!("zlay {version}"),
            frame.relay.to_owned(),
            format!("up {up}"),
        ],
        vec![
            events,
            format!("rejected/s {}", per_second(now.rejected_per_second)),
            format!(
                "delay p50 {} p99 {}",
                ms(now.delay_p50_ms),
                ms(now.delay_p99_ms)
            ),
        ],
        vec![format!("hosts {}", states(now)), subscribers],
        vec![
            format!("last seq {}", number(now.last_seq)),
            format!("window {window} from seq {}", number(now.oldest_seq)),
        ],
    ];
    let plain = |text| Line {
        style: Style::Plain,
        text,
    };
    let blocks = blocks.iter();
    let mut lines: Vec<Line> = blocks
        .flat_map(|items| flow(items, frame.columns, frame.charset))
        .map(plain)
        .collect();
    let full = now.disk_full.as_ref().map(full_disk);
    for alarm in [full.as_deref(), frame.error].into_iter().flatten() {
        lines.push(Line {
            style: Style::Alarm,
            text: cut(alarm, frame.columns, frame.charset),
        });
    }
    lines
}

fn full_disk(full: &FullDisk) -> String {
    let text = |mib: Option<u64>| mib.map_or_else(|| "-".to_owned(), thousands);
    // As the relay's own pages round them.
    let free = text(full.free_bytes.map(|bytes| bytes >> 20));
    let needed = text(full.needed_bytes.map(|bytes| bytes.div_ceil(1 << 20)));
    format!("no new events: the disk is full, {free} MiB are free, {needed} MiB are needed")
}

fn states(now: &Snapshot) -> String {
    let total: u64 = now.states.values().sum();
    if now.states.is_empty() {
        let connected = now
            .hosts_connected
            .map_or_else(|| "-".to_owned(), thousands);
        return format!("connected {connected}");
    }
    let states = now.states.iter().filter(|(_, count)| **count > 0);
    let states: Vec<String> = states
        .map(|(state, count)| format!("{} {state}", thousands(*count)))
        .collect();
    match states.is_empty() {
        true => thousands(total),
        false => format!("{}: {}", thousands(total), states.join(", ")),
    }
}

/// Items beside each other, and below where they do not fit.
fn flow(items: &[String], columns: usize, charset: Charset) -> Vec<String> {
    const GAP: &str = "   ";
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        let item = cut(item, columns, charset);
        match lines.last_mut() {
            Some(line) if width(line) + GAP.len() + width(&item) <= columns => {
                line.push_str(GAP);
                line.push_str(&item);
            }
            _ => lines.push(item),
        }
    }
    lines
}

/// A bar for each value, between nothing and the largest of them.
pub(super) fn sparkline(values: impl Iterator<Item = f64> + Clone, charset: Charset) -> String {
    let bars: &[char] = match charset {
        Charset::Unicode => &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
        Charset::Ascii => &['_', '.', ':', '-', '=', '+', '*', '#'],
    };
    let most = values.clone().fold(0.0, f64::max);
    let bar = |value: f64| {
        let share = if most > 0.0 { value / most } else { 0.0 };
        let at = (share * (bars.len() - 1) as f64).round();
        bars[(at as usize).min(bars.len() - 1)]
    };
    values.map(bar).collect()
}

fn footer(frame: &Frame<'_>, first: usize, shown: usize, total: usize) -> String {
    let failing = match frame.state.failing_only {
        true => "f all hosts",
        false => "f failing only",
    };
    let range = match total {
        0 => "no hosts".to_owned(),
        _ => format!(
            "{}-{} of {}",
            first + 1,
            first + shown,
            thousands(total as u64)
        ),
    };
    let items = [
        "q quit".to_owned(),
        format!("s sort (by {})", frame.state.sort.name()),
        failing.to_owned(),
        "arrows, page up/down scroll".to_owned(),
        range,
    ];
    let mut lines = flow(&items, frame.columns, frame.charset);
    lines.swap_remove(0)
}

/// One column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Column {
    Name,
    State,
    Accounts,
    Rate,
    Rejected,
    Lag,
    Error,
}

impl Column {
    /// In the order in which they stand.
    const ALL: [Column; 7] = [
        Column::Name,
        Column::State,
        Column::Accounts,
        Column::Rate,
        Column::Rejected,
        Column::Lag,
        Column::Error,
    ];
    /// In the order in which they are given room.
    const BY_NEED: [Column; 7] = [
        Column::Name,
        Column::Rate,
        Column::State,
        Column::Lag,
        Column::Rejected,
        Column::Accounts,
        Column::Error,
    ];

    const fn title(self) -> &'static str {
        match self {
            Column::Name => "HOST",
            Column::State => "STATE",
            Column::Accounts => "ACCOUNTS/LIMIT",
            Column::Rate => "EVENTS/S",
            Column::Rejected => "REJECTED/S",
            Column::Lag => "LAG",
            Column::Error => "LAST ERROR",
        }
    }

    /// The least columns of the terminal that it takes.
    const fn width(self) -> usize {
        match self {
            Column::Name => 16,
            Column::State => 16,
            Column::Accounts => 17,
            Column::Rate => 8,
            Column::Rejected => 10,
            Column::Lag => 6,
            Column::Error => 20,
        }
    }

    const fn is_number(self) -> bool {
        matches!(
            self,
            Column::Accounts | Column::Rate | Column::Rejected | Column::Lag
        )
    }

    fn cell(self, host: &Host) -> String {
        let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        match self {
            Column::Name => host.name.clone(),
            Column::State => known(host.state.clone()),
            Column::Accounts => match (host.accounts, host.account_limit) {
                (accounts, Some(limit)) => {
                    format!("{}/{}", known(accounts.map(thousands)), thousands(limit))
                }
                (accounts, None) => known(accounts.map(thousands)),
            },
            Column::Rate => known(host.events_per_second.map(rate)),
            Column::Rejected => known(host.rejected_per_second.map(rate)),
            Column::Lag => known(host.lag_ms.map(span)),
            Column::Error => host.last_error.clone().unwrap_or_default(),
        }
    }
}

/// The columns that there is room for, with their widths.
struct Columns(Vec<(Column, usize)>);

impl Columns {
    fn fit(columns: usize, hosts: &[&Host]) -> Columns {
        let mut chosen = Vec::new();
        let mut used = 0;
        for column in Column::BY_NEED {
            let gap = usize::from(!chosen.is_empty());
            if chosen.is_empty() || used + gap + column.width() <= columns {
                used += gap + column.width();
                chosen.push(column);
            }
        }
        let mut spare = columns.saturating_sub(used);
        let longest = hosts
            .iter()
            .map(|host| width(&clean(&host.name, Charset::Unicode)));
        let longest = longest.max().unwrap_or_default();
        let mut name = Column::Name.width().min(columns);
        // The name first, as far as it needs, then the error.
        let more = longest.saturating_sub(name).min(spare);
        name += more;
        spare -= more;
        let widths = Column::ALL
            .into_iter()
            .filter(|column| chosen.contains(column));
        Columns(
            widths
                .map(|column| match column {
                    Column::Name => (column, name),
                    Column::Error => (column, column.width() + spare),
                    column => (column, column.width()),
                })
                .collect(),
        )
    }

    fn titles(&self, charset: Charset) -> String {
        self.line(charset, |column| column.title().to_owned())
    }

    fn row(&self, host: &Host, charset: Charset) -> String {
        self.line(charset, |column| column.cell(host))
    }

    fn line(&self, charset: Charset, cell: impl Fn(Column) -> String) -> String {
        let cells = self.0.iter().map(|(column, columns)| {
            let text = cell(*column);
            match column.is_number() {
                true => right(&text, *columns, charset),
                false => left(&text, *columns, charset),
            }
        });
        let cells: Vec<String> = cells.collect();
        cells.join(" ").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests;
