//! Splits a long listing into ranges that can be listed at the same time.
//!
//! S3 gives a thousand keys an answer, with the token for the next, so a million objects take a thousand answers, one after
//! the other. But a listing may begin anywhere in the order of keys. While a page is under way, others are requested from
//! places further on that are guessed from the keys seen so far. A wrong guess is harmless, since the keys of a range end
//! where the next begins, wherever that is: it only costs a request.
//!
//! This module does no I/O: [`Ranges::asks`] returns the pages to request, [`Ranges::answer`] takes an answer, and
//! [`Ranges::pop`] gives the pages in the order of their keys. Each key belongs to one range, and each range is listed from
//! its beginning to its end; so no key is listed twice or lost, also when objects are added or removed meanwhile.

use std::collections::{BTreeSet, VecDeque};

use crate::job::Key;
use crate::job::place::MAX_KEY_BYTES;
use crate::links::listing::GatherError;
use crate::store::{Cursor, ListingCourse, ObjectMeta, Page};

/// How many pages may be ahead of the next page to return, requested or buffered; and how many may be buffered in all, with
/// those that arrived before a nearer range was split. A page takes some 200 KB.
const AHEAD: usize = 32;
const AHEAD_IN_ALL: usize = 64;

/// How many bytes the buffered pages may take. A page of the longest keys takes more than a megabyte. Beyond this, only the
/// pages that are already requested are added, and the next page to return.
const MAX_BYTES_AHEAD: usize = 16 * 1024 * 1024;

/// How many pages lie between a guess and the next, if the keys continue as before.
const PIECE: u128 = 2;

/// How many guesses a long listing may have besides one for each page.
const SPARE_GUESSES: usize = 8;

/// How many characters of a key are read as digits, and how many of them precede the first that changes within a page.
const DIGITS: usize = 8;
const BEFORE: usize = 3;

/// The most different characters that are used as digits, and how many keys are skipped for each that is examined.
const MAX_ALPHABET: usize = 1000;
const SAMPLE: usize = 10;

/// A range's number, which is never reused.
pub(super) type RangeId = u64;

/// A page to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageRequest {
    pub(super) range: RangeId,
    from: RangeStart,
}

impl PageRequest {
    pub(super) fn cursor(&self) -> Cursor<'_> {
        match &self.from {
            RangeStart::Start => Cursor::Start,
            RangeStart::After(key) => Cursor::After(key),
            RangeStart::Token(token) => Cursor::Token(token),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RangeStart {
    Start,
    After(String),
    Token(String),
}

/// The result of taking the next page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Popped {
    /// The next page.
    Page(Vec<ObjectMeta>),
    /// It has not arrived yet.
    NotYet,
    /// There is no further page.
    End,
}

/// Keys greater than `after` and not greater than `until`, and how far their listing is.
#[derive(Debug)]
struct Range {
    id: RangeId,
    after: Option<String>,
    /// `None` if the range has no end.
    until: Option<String>,
    state: ListingState,
    /// The last keys of its last two pages; of a single page, the first and the last.
    seen: Option<(String, String)>,
    /// Whether a page arrived since it was last split, and more follow.
    is_long: bool,
    /// How often it was split.
    cuts: usize,
    pages: VecDeque<Vec<ObjectMeta>>,
    /// How many bytes they take.
    bytes: usize,
    course: ListingCourse,
    /// Whether it begins at a guessed place from which no page has been listed yet.
    is_mere_guess: bool,
    /// The keys of the last page that was listed, of this range and others.
    last_page: Vec<Key>,
    /// The first key listed that is greater than `after`; `Some(None)` if there is none.
    first: Option<Option<String>>,
    /// The first key listed that is greater than `until`; `Some(None)` if there is none.
    beyond: Option<Option<String>>,
}

#[derive(Debug)]
enum ListingState {
    Waits(RangeStart),
    Asked,
    Done,
}

/// A listing in ranges, in the order of their keys.
#[derive(Debug)]
pub(super) struct Ranges {
    ranges: VecDeque<Range>,
    next_id: RangeId,
    at_once: usize,
    in_flight: usize,
    /// The prefix of all keys and of all guessed places: some stores refuse to list from a place outside it.
    prefix: String,
    /// How many bytes the buffered pages take.
    bytes_ahead: usize,
    alphabet: BTreeSet<char>,
    /// How many pages were followed by another.
    long_pages: usize,
    /// How many places were guessed.
    guesses: usize,
    /// With which key the front must begin, since the range before it ended there; `Some(None)` if with none.
    expected: Option<Option<String>>,
}

impl Ranges {
    /// All keys under a prefix, of which at most `at_once` pages are requested at the same time.
    pub(super) fn new(prefix: &str, at_once: usize) -> Self {
        let all = Range::new(0, None, None, RangeStart::Start);
        Self {
            ranges: VecDeque::from([all]),
            next_id: 1,
            at_once,
            in_flight: 0,
            prefix: prefix.to_owned(),
            bytes_ahead: 0,
            alphabet: BTreeSet::new(),
            long_pages: 0,
            guesses: 0,
            expected: None,
        }
    }

    /// The pages to request now, besides those under way.
    pub(super) fn asks(&mut self) -> Vec<PageRequest> {
        let mut asks = Vec::new();
        while self.in_flight < self.at_once {
            let Some(index) = self.first_that_waits() else {
                break;
            };
            asks.extend(self.ranges[index].ask());
            self.in_flight += 1;
        }
        // All free requests go into the same split: adjacent pieces of a few pages keep the order.
        let free = self.at_once.saturating_sub(self.in_flight);
        let guesses = match self.long_pages {
            0 => 0,
            1 => free.min(1),
            _ => free,
        };
        if (1..=self.guesses_left()).contains(&guesses)
            && let Some(index) = self.first_to_cut()
        {
            let new = self.cut(index, guesses);
            self.in_flight += new.len();
            self.guesses += new.len();
            asks.extend(new);
        }
        asks
    }

    /// A listing of two pages costs one guess, and no listing costs more than about twice its pages.
    fn guesses_left(&self) -> usize {
        let spare = if self.long_pages > 1 {
            SPARE_GUESSES
        } else {
            0
        };
        (self.long_pages + spare).saturating_sub(self.guesses)
    }

    /// The ranges, from the front on, that are not too far ahead.
    fn near(&self) -> impl Iterator<Item = (usize, &Range)> {
        let in_all: usize = self.ranges.iter().map(|range| range.pages.len()).sum();
        let mut ahead = 0;
        let ranges = self.ranges.iter().enumerate();
        ranges.take_while(move |(index, range)| {
            let has_room = in_all < AHEAD_IN_ALL && self.bytes_ahead < MAX_BYTES_AHEAD;
            let is_near = *index == 0 || (ahead < AHEAD && has_room);
            ahead += range.pages.len() + usize::from(matches!(range.state, ListingState::Asked));
            is_near
        })
    }

    fn first_that_waits(&self) -> Option<usize> {
        let waits = |range: &Range| matches!(range.state, ListingState::Waits(_));
        // The front's pages are returned at once; those of other ranges are buffered.
        let mut near = self.near();
        near.find(|(_, range)| waits(range)).map(|(index, _)| index)
    }

    fn first_to_cut(&self) -> Option<usize> {
        let mut near = self.near();
        let found =
            near.find(|(_, range)| range.is_long && matches!(range.state, ListingState::Asked));
        found.map(|(index, _)| index)
    }

    /// Splits a range into several, whose first pages are to be requested.
    fn cut(&mut self, index: usize, guesses: usize) -> Vec<PageRequest> {
        let range = &mut self.ranges[index];
        range.is_long = false;
        range.cuts += 1;
        let places = range.places(&self.prefix, guesses, &self.alphabet);
        let mut until = range.until.take();
        range.until = places.first().cloned().or(until.clone());
        let mut asks = Vec::new();
        for place in places.into_iter().rev() {
            let (id, from) = (self.next_id, RangeStart::After(place.clone()));
            self.next_id += 1;
            let mut new = Range::new(id, Some(place.clone()), until.replace(place), from);
            asks.extend(new.ask());
            self.ranges.insert(index + 1, new);
        }
        asks.reverse();
        asks
    }

    /// Adds an answer.
    pub(super) fn answer(&mut self, id: RangeId, page: Page) -> Result<(), GatherError> {
        self.in_flight -= 1;
        // In another order, a page could not be assigned to its range.
        if let Some([last, key]) = page.out_of_order() {
            return Err(out_of_order(last.as_str(), key.as_str()));
        }
        let range = self.ranges.iter_mut().find(|range| range.id == id);
        let range = range.expect("a range stays until its last answer has come");
        range.take(page)?;
        self.long_pages += usize::from(range.is_long);
        learn(range, &self.prefix, &mut self.alphabet);
        self.bytes_ahead = self.ranges.iter().map(|range| range.bytes).sum();
        Ok(())
    }

    /// Records that the store refused the first page of a range. Returns whether the listing can continue without it, which is
    /// so if the range's place was guessed. After that, no places are guessed.
    pub(super) fn give_up(&mut self, id: RangeId) -> bool {
        let index = self.ranges.iter().position(|range| range.id == id);
        let Some(index) = index.filter(|index| self.ranges[*index].is_mere_guess) else {
            return false;
        };
        self.in_flight -= 1;
        self.at_once = 1;
        let before = index.checked_sub(1).map(|before| &self.ranges[before]);
        match before.map(|before| &before.state) {
            // Its keys go to the range before, which will reach them.
            Some(ListingState::Asked | ListingState::Waits(_)) => {
                let refused = self.ranges.remove(index).expect("it was found there");
                self.ranges[index - 1].until = refused.until;
            }
            // From the first key on; keys of other ranges are skipped.
            Some(ListingState::Done) | None => {
                self.ranges[index].state = ListingState::Waits(RangeStart::Start);
                self.ranges[index].is_mere_guess = false;
            }
        }
        true
    }

    /// Returns the next page.
    ///
    /// # Errors
    /// The store lists in another order: a range does not begin with the key that ended the one before it. The listing is void.
    pub(super) fn pop(&mut self) -> Result<Popped, GatherError> {
        while let Some(distribution) = self.ranges.front_mut() {
            match (&self.expected, &distribution.first) {
                (Some(_), None) => return Ok(Popped::NotYet),
                (Some(expected), Some(first)) if expected != first => {
                    let key = |key: &Option<String>| key.clone().unwrap_or_default();
                    return Err(out_of_order(&key(expected), &key(first)));
                }
                (Some(_) | None, _) => self.expected = None,
            }
            if let Some(page) = distribution.pages.pop_front() {
                let bytes = bytes_of(&page);
                distribution.bytes -= bytes;
                self.bytes_ahead -= bytes;
                return Ok(Popped::Page(page));
            }
            match distribution.state {
                ListingState::Done => {
                    self.expected = distribution.beyond.take();
                    drop(self.ranges.pop_front());
                }
                ListingState::Waits(_) | ListingState::Asked => return Ok(Popped::NotYet),
            }
        }
        Ok(Popped::End)
    }
}

impl Range {
    fn new(id: RangeId, after: Option<String>, until: Option<String>, from: RangeStart) -> Self {
        Self {
            id,
            is_mere_guess: after.is_some(),
            last_page: Vec::new(),
            first: None,
            beyond: None,
            after,
            until,
            state: ListingState::Waits(from),
            seen: None,
            is_long: false,
            cuts: 0,
            pages: VecDeque::new(),
            bytes: 0,
            course: ListingCourse::default(),
        }
    }

    fn ask(&mut self) -> Option<PageRequest> {
        match std::mem::replace(&mut self.state, ListingState::Asked) {
            ListingState::Waits(from) => Some(PageRequest {
                range: self.id,
                from,
            }),
            ListingState::Asked | ListingState::Done => None,
        }
    }

    /// At most `count` places in the range, in order, after the keys that it has given so far; none if little is left of it.
    ///
    /// Most are as far apart as the last pages were. One is in the next folder or so, since the present folder may end. Every
    /// second time all are, for keys that only continue there.
    fn places(&self, prefix: &str, count: usize, alphabet: &BTreeSet<char>) -> Vec<String> {
        let Some((first, last)) = &self.seen else {
            return Vec::new();
        };
        let is_in = |place: &String| {
            let until = self.until.as_deref();
            let is_between = last < place && until.is_none_or(|until| place.as_str() < until);
            is_between && place.starts_with(prefix) && place.len() <= MAX_KEY_BYTES
        };
        let near = places_near(first, last).into_iter();
        let near = spread(near.filter(is_in).collect(), self.near_of(count));
        let onward = count - near.len();
        let places = places_onward(first, last, prefix, onward, alphabet);
        let mut places: Vec<String> = places.into_iter().filter(is_in).collect();
        if onward > 0 && places.is_empty() && self.until.is_some() {
            return places;
        }
        places.extend(near);
        places.sort();
        places.dedup();
        places
    }

    fn near_of(&self, count: usize) -> usize {
        match (self.cuts.is_multiple_of(2), count) {
            (false, 1) => 0,
            (false, _) => 1,
            (true, _) => count,
        }
    }

    /// Adds the keys of a page that belong to the range. It is an error if the page does not begin where it was requested, or does
    /// not follow the page before it.
    fn take(&mut self, page: Page) -> Result<(), GatherError> {
        let mut objects = page.objects;
        if self.is_mere_guess {
            self.is_mere_guess = false;
            // A place may be a key, and some stores then begin with it.
            if let (Some(after), Some(first)) = (&self.after, objects.first())
                && first.key.as_str() < after.as_str()
            {
                return Err(out_of_order(after, first.key.as_str()));
            }
        }
        self.drop_repeated(&mut objects)?;
        let is_before = |object: &ObjectMeta| {
            let after = self.after.as_deref();
            after.is_some_and(|after| object.key.as_str() <= after)
        };
        let before = objects.partition_point(is_before);
        objects.drain(..before);
        let first = objects.first().map(|object| object.key.to_string());
        if self.first.is_none() && (first.is_some() || page.continuation_token.is_none()) {
            self.first = Some(first);
        }
        let until = self.until.as_deref();
        let own = |object: &ObjectMeta| until.is_none_or(|until| object.key.as_str() <= until);
        let count = objects.partition_point(own);
        let beyond = objects.get(count).map(|object| object.key.to_string());
        let is_over = beyond.is_some();
        if is_over || page.continuation_token.is_none() {
            self.beyond = Some(beyond);
        }
        objects.truncate(count);
        let last_seen = self.seen.as_ref().map(|(_, last)| last.as_str());
        let last = objects.last().map(|object| object.key.as_str());
        let has_new = last.is_some() && last > last_seen;
        self.state = match page.continuation_token {
            Some(token) if !is_over => {
                self.course.go_on(&token, has_new)?;
                ListingState::Waits(RangeStart::Token(token))
            }
            Some(_) | None => ListingState::Done,
        };
        self.is_long = !matches!(self.state, ListingState::Done) && !objects.is_empty();
        if let (Some(first), Some(last)) = (objects.first(), objects.last()) {
            let before = self.seen.take().map(|(_, last)| last);
            let before = before.unwrap_or_else(|| first.key.to_string());
            self.seen = Some((before, last.key.to_string()));
            self.bytes += bytes_of(&objects);
            self.pages.push_back(objects);
        }
        Ok(())
    }

    /// Drops what the page before had. S3 continues after the last key; a server that counts instead repeats keys when others are
    /// added meanwhile. Any other key that precedes is out of order.
    fn drop_repeated(&mut self, objects: &mut Vec<ObjectMeta>) -> Result<(), GatherError> {
        let keys: Vec<Key> = objects.iter().map(|object| object.key.clone()).collect();
        if let Some(last) = self.last_page.last() {
            let count = keys.partition_point(|key| key <= last);
            let is_new = |key: &&Key| self.last_page.binary_search(key).is_err();
            if let Some(key) = keys[..count].iter().find(is_new) {
                return Err(out_of_order(last.as_str(), key.as_str()));
            }
            objects.drain(..count);
        }
        if !objects.is_empty() {
            self.last_page = keys;
        }
        Ok(())
    }
}

/// Adds the characters at the positions where the keys of a range's last page change.
fn learn(range: &Range, prefix: &str, alphabet: &mut BTreeSet<char>) {
    let (Some((before, last)), Some(page)) = (&range.seen, range.pages.back()) else {
        return;
    };
    let from = window(before, last, prefix);
    let sample = page.iter().step_by(SAMPLE);
    let texts = sample.filter_map(|object| object.key.as_str().get(from..));
    let characters = texts.flat_map(|text| text.chars().take(2 * BEFORE));
    let room = MAX_ALPHABET.saturating_sub(alphabet.len());
    alphabet.extend(characters.filter(|c| !c.is_control()).take(room));
}

/// How many bytes a page takes.
pub(super) fn bytes_of(page: &[ObjectMeta]) -> usize {
    let texts = page.iter().map(|object| {
        let version = object.version.as_ref().map_or(0, String::len);
        object.key.as_str().len() + object.etag.len() + version
    });
    size_of_val(page) + texts.sum::<usize>()
}

/// The error of a key that does not follow another, though it was listed after it.
fn out_of_order(last: &str, key: &str) -> GatherError {
    GatherError::OutOfOrder {
        key: key.to_owned(),
        last: last.to_owned(),
    }
}

/// Places after `last`, the nearest first: the first texts that share less and less of its beginning.
///
/// After `2026/11/0999` these are `2026/11/1`, `2026/12`, `2027`, `3`; only those that change no more than the page before did.
fn places_near(first: &str, last: &str) -> Vec<String> {
    let same = first.chars().zip(last.chars()).take_while(|(a, b)| a == b);
    let beginnings = last.char_indices();
    let mut places: Vec<String> = beginnings
        .take(same.count() + 1)
        .filter_map(|(at, c)| Some(format!("{}{}", &last[..at], next_character(c)?)))
        .collect();
    places.reverse();
    places
}

/// Picks `count` of these places, evenly spread.
fn spread(places: Vec<String>, count: usize) -> Vec<String> {
    let all = places.len();
    let chosen: BTreeSet<usize> = match all <= count {
        true => (0..all).collect(),
        false => (1..=count).map(|n| n * all / (count + 1)).collect(),
    };
    let places = places.into_iter().enumerate();
    let chosen = places.filter(|(index, _)| chosen.contains(index));
    chosen.map(|(_, place)| place).collect()
}

/// The next character that is safe in a key.
fn next_character(c: char) -> Option<char> {
    (c..=char::MAX).skip(1).find(|c| !c.is_control())
}

/// Places after `last`, so far apart that a few pages like that from `first` to `last` lie between any two. For this, keys
/// are read as numbers, whose digits are the characters that were seen in keys.
fn places_onward(
    first: &str,
    last: &str,
    prefix: &str,
    count: usize,
    alphabet: &BTreeSet<char>,
) -> Vec<String> {
    let alphabet: Vec<char> = alphabet.iter().copied().collect();
    let same = window(first, last, prefix);
    let from = number(&last[same..], &alphabet);
    let page = from.saturating_sub(number(&first[same..], &alphabet));
    let places = (1..=count as u128).map(|n| {
        let place = from + (n * PIECE + 1) * page;
        format!("{}{}", &last[..same], spelled(place, &alphabet))
    });
    places.collect()
}

/// Where the characters that change from page to page begin: a few before those that change within a page, after the prefix.
fn window(first: &str, last: &str, prefix: &str) -> usize {
    let same = &last[..same_bytes(first, last)];
    let mut starts = same.char_indices().rev().map(|(at, _)| at);
    let start = starts.nth(BEFORE - 1).unwrap_or(0);
    start.max(same_bytes(prefix, same))
}

/// The length of the common prefix of two texts in bytes, in whole characters.
fn same_bytes(a: &str, b: &str) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    same.map(|(c, _)| c.len_utf8()).sum()
}

/// The beginning of a text as a number. The digit of a character is the number of characters in the alphabet up to it; the
/// digit of the end of the text is 0.
fn number(text: &str, alphabet: &[char]) -> u128 {
    let digits = text.chars().map(|c| alphabet.partition_point(|a| *a <= c));
    let digits = digits.chain(std::iter::repeat(0)).take(DIGITS);
    let base = alphabet.len() as u128 + 1;
    digits.fold(0, |number, digit| number * base + digit as u128)
}

fn spelled(mut number: u128, alphabet: &[char]) -> String {
    let base = alphabet.len() as u128 + 1;
    let mut digits = [0; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = usize::try_from(number % base).unwrap_or_default();
        number /= base;
    }
    let characters = digits
        .into_iter()
        .map(|digit| alphabet.get(digit.checked_sub(1)?).copied());
    characters.map_while(|c| c).collect()
}

#[cfg(test)]
mod tests;
