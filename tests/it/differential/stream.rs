//! Random streams of commands, replayed by their seed.

/// A small generator of pseudo-random numbers.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.roll(items.len() as u64) as usize]
    }
}

/// How two replies are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Exact,
    Kind,
    Unordered,
}

/// A command with placeholders.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    pub compare: Compare,
    pub text: &'static str,
}

/// A command.
#[derive(Clone, Debug)]
pub struct Command {
    pub compare: Compare,
    pub words: Vec<Vec<u8>>,
}

pub fn templates(text: &'static str) -> Vec<Template> {
    let line = |line: &'static str| {
        let (mark, text) = line.split_once(' ')?;
        let compare = match mark {
            "=" => Compare::Exact,
            "~" => Compare::Kind,
            "%" => Compare::Unordered,
            _ => return None,
        };
        Some(Template { compare, text })
    };
    text.lines().filter_map(line).collect()
}

impl Template {
    pub fn fill(&self, dice: &mut Dice) -> Command {
        let words =
            self.text.split(' ').enumerate().map(|(i, word)| if i == 0 { word.into() } else { fill(word, dice) });
        Command { compare: self.compare, words: words.collect() }
    }
}

fn fill(word: &str, dice: &mut Dice) -> Vec<u8> {
    let number = dice.roll(3);
    match word {
        "V" => value(dice),
        "W" => text(dice),
        // A sum of halves is exact in every arithmetic.
        "H" => format!("{}.5", dice.roll(20) as i64 - 10).into_bytes(),
        "I" => dice.roll(12).to_string().into_bytes(),
        "F" => format!("{}.{}", dice.roll(20) as i64 - 10, dice.roll(4) * 25).into_bytes(),
        "C" | "C*" => word.replace('C', &format!("c{number}")).into_bytes(),
        "1-I" | "2-I" | "3-I" => word.replace('I', &dice.roll(12).to_string()).into_bytes(),
        "K" => number.to_string().into_bytes(),
        _ if word.ends_with(":K") => word.replace('K', &number.to_string()).into_bytes(),
        _ if word.len() <= 3 && word.starts_with(|c: char| c.is_lowercase()) && word[1..].starts_with('K') => {
            word.replace('K', &number.to_string()).into_bytes()
        }
        // A function's library begins with a line of its own.
        _ => word.replace("\\n", "\n").replace('@', " ").into_bytes(),
    }
}

fn value(dice: &mut Dice) -> Vec<u8> {
    match dice.roll(60) {
        0 => Vec::new(),
        1 => b"with\r\nlines\0and zero".to_vec(),
        2 => vec![b'x'; 20_000],
        3 => vec![b'y'; 100],
        4 => b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n".to_vec(),
        n => format!("v{}", n % 3).into_bytes(),
    }
}

/// A value that is text, which is what columns hold.
fn text(dice: &mut Dice) -> Vec<u8> {
    match dice.roll(30) {
        0 => Vec::new(),
        1 => b"with\r\nlines \"and\" 'quotes' \\ {}".to_vec(),
        2 => vec![b'x'; 20_000],
        3 => "\u{e9}\u{2318}\u{1f9e5}".into(),
        4 => b"*3\r\n$7\r\nmessage\r\n".to_vec(),
        5 => dice.roll(100).to_string().into_bytes(),
        n => format!("v{}", n % 3).into_bytes(),
    }
}

impl Command {
    pub fn text(&self) -> String {
        self.words.iter().map(|word| String::from_utf8_lossy(&word[..word.len().min(40)])).collect::<Vec<_>>().join(" ")
    }

    pub fn named(text: &str) -> Self {
        Self { compare: Compare::Exact, words: text.split(' ').map(|word| word.as_bytes().to_vec()).collect() }
    }

    /// As an array, or now and then inline.
    pub fn encode(&self, dice: &mut Dice) -> Vec<u8> {
        let plain = |word: &Vec<u8>| !word.is_empty() && word.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'.');
        if dice.roll(20) == 0 && self.words.iter().all(plain) {
            return [self.words.join(&b' '), b"\r\n".to_vec()].concat();
        }
        crate::support::wire::array(&self.words)
    }
}
