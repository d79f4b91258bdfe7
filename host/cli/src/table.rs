//! Plain columns, and the formats of times and amounts for people.
//!
//! Nothing is drawn around the columns, so that other programs can cut piped output.

use super::terminal::{Stream, shortened, text_width};
use agenthost::date::utc_date;
use agenthost::limits::units::show_count;
use agenthost::printable::one_line;

/// The width of lines if stdout is not a terminal.
const PIPED: usize = 100;

/// One column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// Aligned to the left.
    Left,
    /// Aligned to the right, as numbers are.
    Right,
    /// Aligned to the left, and cut if a line would be too long.
    Cut,
}

/// Returns the terminal's width, or a readable one without a terminal.
pub(super) fn width() -> usize {
    Stream::Stdout.columns().map_or(PIPED, |columns| columns.clamp(60, 200))
}

/// Returns the rows as lines, with two spaces between columns. Nothing is cut if `width` is `None`. A cell is on one
/// line, whatever it contains.
pub(super) fn columns(kinds: &[Column], rows: &[Vec<String>], width: Option<usize>) -> String {
    let line = |row: &Vec<String>| row.iter().map(|cell| one_line(cell).into_owned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(line).collect();
    let widest = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| text_width(cell)).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..kinds.len()).map(widest).collect();
    let total = widths.iter().sum::<usize>() + 2 * kinds.len().saturating_sub(1);
    let mut over = total.saturating_sub(width.unwrap_or(usize::MAX));
    for (kind, width) in kinds.iter().zip(&mut widths) {
        if *kind == Column::Cut {
            let cut = over.min(width.saturating_sub(12));
            *width -= cut;
            over -= cut;
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(kinds).zip(&widths);
        let cells = cells.map(|((cell, kind), width)| match kind {
            Column::Right => format!("{}{cell}", padding(cell, *width)),
            Column::Left => format!("{cell}{}", padding(cell, *width)),
            Column::Cut => {
                let cell = shortened(cell, *width);
                format!("{cell}{}", padding(&cell, *width))
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Like [`columns`]; leaves out whole columns, in the order of `first_to_go`, if cutting alone cannot make the lines short
/// enough.
pub(super) fn columns_without(
    kinds: &[Column],
    rows: &[Vec<String>],
    width: Option<usize>,
    first_to_go: &[usize],
) -> String {
    let most = width.unwrap_or(usize::MAX);
    let widest = |text: &str| text.lines().map(text_width).max().unwrap_or(0);
    let mut gone: &[usize] = &[];
    loop {
        let kept = |at: &usize| !gone.contains(at);
        let pick = |row: &Vec<String>| {
            let cells = row.iter().enumerate().filter(|(at, _)| kept(at));
            cells.map(|(_, cell)| cell.clone()).collect()
        };
        let rows: Vec<Vec<String>> = rows.iter().map(pick).collect();
        let kinds: Vec<Column> = (0..kinds.len())
            .filter(kept)
            .filter_map(|at| kinds.get(at).copied())
            .collect();
        let text = columns(&kinds, &rows, width);
        match first_to_go.get(..gone.len() + 1) {
            Some(more) if widest(&text) > most => gone = more,
            _ => return text,
        }
    }
}

fn padding(cell: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(text_width(cell)))
}

/// Formats a count with a comma before every three digits.
pub(super) fn count(n: u64) -> String {
    show_count(n)
}

/// Formats a duration: `0.42 s`, `12.3 s`, `5 min 2 s`, `3 h 20 min`, `4 d 2 h`.
pub(super) fn time(ms: u64) -> String {
    let parts = |large: u64, one: &str, small: u64, other: &str| match small {
        0 => format!("{large} {one}"),
        _ => format!("{large} {one} {small} {other}"),
    };
    let seconds = ms / 1_000;
    match seconds {
        0..10 => format!("{:.2} s", ms as f64 / 1e3),
        10..60 => format!("{:.1} s", ms as f64 / 1e3),
        60..3_600 => parts(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => parts(seconds / 3_600, "h", seconds / 60 % 60, "min"),
        _ => parts(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

/// Formats the age of something: `7 s ago`, `3 min ago`, `2 h ago`, `5 d ago`.
pub(super) fn ago(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..60 => format!("{seconds} s ago"),
        seconds @ 60..3_600 => format!("{} min ago", seconds / 60),
        seconds @ 3_600..86_400 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}

/// Formats a time since 1970 as `2026-11-23 07:33:27`, in UTC.
pub(super) fn utc(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (year, month, day) = utc_date(ms);
    format!(
        "{year}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Adds a comma before every three digits of a number. Any other text is returned unchanged.
pub(super) fn thousands(text: &str) -> String {
    text.parse().map_or_else(|_| text.to_owned(), show_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_only_one_is_cut() {
        use Column::{Cut, Left, Right};
        let rows = [["a", "10", "short"], ["bcd", "7", "a text that is far too long"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            columns(&[Left, Right, Cut], &rows, None),
            "a    10  short\nbcd   7  a text that is far too long"
        );
        let cut = columns(&[Left, Right, Cut], &rows, Some(25));
        assert_eq!(cut, "a    10  short\nbcd   7  a text that is …");
        assert!(cut.lines().all(|line| line.chars().count() <= 25));
    }

    #[test]
    fn columns_go_in_their_order_until_the_others_fit() {
        use Column::{Cut, Left, Right};
        let rows = [["a-run", "yesterday", "a-very-long-plugin", "$0.01"]
            .map(str::to_owned)
            .to_vec()];
        let fitted = |width| columns_without(&[Left, Left, Cut, Right], &rows, width, &[1, 2]);
        assert_eq!(fitted(None), "a-run  yesterday  a-very-long-plugin  $0.01");
        assert_eq!(fitted(Some(37)), "a-run  yesterday  a-very-long…  $0.01");
        assert_eq!(fitted(Some(30)), "a-run  a-very-long-plu…  $0.01");
        assert_eq!(fitted(Some(20)), "a-run  $0.01");
    }

    #[test]
    fn times_are_written_for_people() {
        let times = [420, 12_340, 302_000, 300_000, 12_000_000, 360_000_000].map(time);
        assert_eq!(
            times,
            ["0.42 s", "12.3 s", "5 min 2 s", "5 min", "3 h 20 min", "4 d 4 h"]
        );
        assert_eq!(
            [59_999, 60_000, 7_200_000, 900_000_000].map(ago),
            ["59 s ago", "1 min ago", "2 h ago", "10 d ago"]
        );
    }

    #[test]
    fn dates_are_right_around_leap_days_and_turns_of_years() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_709_251_200, "2024-03-01 00:00:00"),
            (1_767_225_599, "2025-12-31 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds * 1_000), expected);
        }
    }
}
