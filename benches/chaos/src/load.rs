//! What is posted: texts, threads, pictures, videos and comments, each marked so that its objects are known wherever they appear.

use std::fmt;

use social_core::{Draft, MediaRef};

use crate::random::Random;

/// What a post is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One text.
    Text,
    /// Three parts, each answering the one before. X only.
    Thread,
    /// A text with a picture.
    Image,
    /// A text with a video, which is uploaded in steps and processed.
    Video,
    /// A text with a comment below it.
    Comment,
}

impl Shape {
    /// How many visible objects it becomes.
    #[must_use]
    pub const fn parts(self) -> usize {
        match self {
            Self::Text | Self::Image | Self::Video => 1,
            Self::Comment => 2,
            Self::Thread => 3,
        }
    }

    /// How many files its first part carries.
    #[must_use]
    pub const fn media(self) -> usize {
        match self {
            Self::Image | Self::Video => 1,
            Self::Text | Self::Thread | Self::Comment => 0,
        }
    }

    /// A mix as people post: mostly texts.
    #[must_use]
    pub fn by_chance(random: &mut Random, platform: &str) -> Self {
        match (random.below(10), platform) {
            (0..=4, _) => Self::Text,
            (5, "x") | (6, "x") => Self::Thread,
            (5..=8, _) => Self::Image,
            _ => Self::Video,
        }
    }

    /// What is said; `number` marks it.
    #[must_use]
    pub fn draft(self, number: usize, files: &Files) -> Draft {
        let say = |part, words: &str| format!("{} {words}", Marker { number, part });
        match self {
            Self::Text => Draft::text(say(1, "The harbour opens at seven.")),
            Self::Thread => Draft::text(say(1, "A story in three parts."))
                .then(say(2, "This is where it turns."))
                .then(say(3, "And this is how it ends.")),
            Self::Image => Draft::text(say(1, "The harbour at dawn.")).image(files.image.clone(), "a harbour"),
            Self::Video => Draft::text(say(1, "The harbour in motion.")).video(files.video.clone()),
            Self::Comment => Draft::text(say(1, "What do you think?")).first_comment(say(2, "The link is here.")),
        }
    }
}

/// The files that posts carry: taken in once, attached many times.
#[derive(Debug, Clone)]
pub struct Files {
    /// A picture.
    pub image: MediaRef,
    /// A video.
    pub video: MediaRef,
}

/// Stands in every text: which post, which part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Marker {
    /// Which post of the run.
    pub number: usize,
    /// Which part of it, from 1.
    pub part: usize,
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chaos{:06}p{}", self.number, self.part)
    }
}

impl Marker {
    /// The first marker in a text, or in the body of a request.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        let rest = text.split_once("chaos")?.1;
        let (number, rest) = rest.split_at_checked(6)?;
        let part: String = rest.strip_prefix('p')?.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { number: number.parse().ok()?, part: part.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_where_it_was_written() {
        let marker = Marker { number: 42, part: 3 };
        assert_eq!(Marker::find(&format!("{{\"text\":\"{marker} and more\"}}")), Some(marker));
        assert_eq!(Marker::find("chaos of another kind"), None);
        assert_eq!(Marker::find("chaos"), None);
    }
}
