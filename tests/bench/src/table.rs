//! The figures, printed at the end.

/// Rows of name, figure and goal.
#[derive(Default)]
pub(crate) struct Table(Vec<[String; 3]>);

impl Table {
    /// Adds a row, and shows it at once.
    pub(crate) fn add(&mut self, what: impl Into<String>, figure: impl Into<String>, goal: impl Into<String>) {
        let row = [what.into(), figure.into(), goal.into()];
        println!("  {}: {}", row[0], row[1]);
        self.0.push(row);
    }

    /// Adds the median of a rate, with its spread.
    pub(crate) fn add_rate(&mut self, what: impl Into<String>, mut rates: Vec<f64>, goal: impl Into<String>) {
        rates.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (rates.first(), rates.last()) else { return };
        let figure = format!("{} /s ({} – {})", grouped(rates[rates.len() / 2]), grouped(*least), grouped(*most));
        self.add(what, figure, goal);
    }

    pub(crate) fn print(&self) {
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (first, second) = (width(0), width(1));
        println!();
        for [what, figure, goal] in &self.0 {
            println!("{what:<first$}  {figure:<second$}  {goal}");
        }
    }
}

/// With thousands separated.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
