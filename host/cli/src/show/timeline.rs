//! A timeline as text: a line for each bar, all on the same axis, so that concurrent bars are one above the other.

use super::super::table;
use super::super::terminal::shortened;
use agenthost::printable::one_line;

/// The most characters of a line that a label takes.
const LABEL: usize = 40;
/// The least width of an axis that shows anything.
const AXIS: usize = 16;

/// One bar, in milliseconds since 1970.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) from: u64,
    /// `None` if it has no end.
    pub(super) to: Option<u64>,
}

/// Draws at most `most` of the bars, on lines of `width` characters.
pub(super) fn draw(bars: &[Bar], most: usize, width: usize) -> String {
    let Some(start) = bars.iter().map(|bar| bar.from).min() else {
        return String::new();
    };
    let latest = |bar: &Bar| bar.to.unwrap_or(bar.from).max(bar.from);
    let end = bars.iter().map(latest).max().unwrap_or(start);
    let shown: Vec<_> = bars.iter().take(most).collect();
    let names: Vec<_> = shown.iter().map(|bar| one_line(&bar.label)).collect();
    let labels = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let times: Vec<_> = shown
        .iter()
        .map(|bar| match bar.to {
            Some(to) => table::time(to.saturating_sub(bar.from)),
            None => "no end".into(),
        })
        .collect();
    let last = times.iter().map(String::len).max().unwrap_or(0);
    let room = width.saturating_sub(last + 4);
    let labels = labels.min(LABEL).min(room.saturating_sub(AXIS));
    let cells = room.saturating_sub(labels).max(AXIS);
    let span = (end - start).max(1);
    let cell = |at: u64| {
        let share = u128::from(at.saturating_sub(start)) * cells as u128 / u128::from(span);
        usize::try_from(share).unwrap_or(cells).min(cells)
    };
    let (zero, whole) = ("0", table::time(end - start));
    let gap = cells.saturating_sub(zero.len());
    let mut lines = vec![format!("{:labels$}  {zero}{whole:>gap$}", "")];
    for ((bar, name), time) in shown.iter().zip(names).zip(times) {
        let from = cell(bar.from).min(cells - 1);
        let to = bar.to.map_or(cells, cell).max(from + 1);
        let mark = if bar.to.is_some() { "█" } else { "░" };
        let label = shortened(&name, labels);
        let line = format!(
            "{}{}{}",
            " ".repeat(from),
            mark.repeat(to - from),
            " ".repeat(cells - to)
        );
        lines.push(format!("{label:<labels$}  {line}  {time:>last$}"));
    }
    if bars.len() > most {
        lines.push(format!("… and {} more (--all shows them)", bars.len() - most));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, from: u64, to: Option<u64>) -> Bar {
        Bar {
            label: label.into(),
            from,
            to,
        }
    }

    #[test]
    fn what_ran_at_once_stands_one_above_the_other() {
        let bars = [
            bar("a", 1_000, Some(3_000)),
            bar("b", 1_000, Some(2_000)),
            bar("c", 3_000, Some(5_000)),
            bar("d", 4_000, None),
        ];
        let drawn = draw(&bars, 40, 31);
        assert_eq!(
            drawn.lines().collect::<Vec<_>>(),
            [
                "   0             4.00 s",
                "a  ██████████            2.00 s",
                "b  █████                 1.00 s",
                "c            ██████████  2.00 s",
                "d                 ░░░░░  no end",
            ]
        );
        assert!(drawn.lines().all(|line| line.chars().count() <= 31), "{drawn}");
    }

    #[test]
    fn every_bar_shows_and_none_leaves_the_axis() {
        let many: Vec<_> = (0..50)
            .map(|n| {
                bar(
                    &format!("root/{n} of a very long name that has to be cut somewhere"),
                    n,
                    Some(n),
                )
            })
            .collect();
        let drawn = draw(&many, 40, 60);
        assert_eq!(drawn.lines().count(), 42);
        assert!(drawn.ends_with("… and 10 more (--all shows them)"), "{drawn}");
        assert!(
            drawn
                .lines()
                .skip(1)
                .take(40)
                .all(|line| line.matches('█').count() == 1)
        );
        assert!(drawn.lines().all(|line| line.chars().count() <= 60), "{drawn}");
        assert_eq!(draw(&[], 40, 60), "");
    }
}
