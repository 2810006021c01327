//! What the agent takes, over the lives of its processes, and whether the last one stays as it is.
//!
//! What must always hold: a process is compared with itself alone, and only once it has come to rest: what it needs
//! first it takes in its first minutes.

/// Between two parts of a life, the median of its RSS may grow by so much, in kB: a batch and the server's answer to it
/// take a MiB each, twice while one is read into the other, and the longest of a life may come late in it. A process that
/// kept 150 bytes of each op would grow by more in the second half of 30 minutes at 50 ops a second.
pub(super) const RSS_GROWTH_MAX_KB: u64 = 4096;
/// The median of its descriptors may grow by so many: a connection and the files of one profile, open at one time and
/// closed at the other. One that leaked a descriptor at each fault would be hundreds over it.
pub(super) const DESCRIPTORS_GROWTH_MAX: u64 = 5;
/// As many threads may come or go: the one that works on the databases ends when it is idle.
pub(super) const THREADS_GROWTH_MAX: u64 = 3;
/// A life with fewer samples is too short to be judged.
const SAMPLES_MIN: usize = 60;
/// A life is looked at in so many parts: the first is its youth, the second is compared with the last.
const PARTS: usize = 6;

/// What a process takes at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) rss_kb: u64,
    /// `None` where the system keeps it from us.
    pub(super) descriptors: Option<u64>,
    pub(super) threads: u64,
}

/// One number of a life, from its youth on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) start: u64,
    pub(super) middle: u64,
    pub(super) end: u64,
    pub(super) max: u64,
}

/// The samples of every process, a second apart.
#[derive(Debug, Default)]
pub(super) struct Course {
    samples: Vec<(usize, Usage)>,
}

impl Course {
    pub(super) fn extend(&mut self, sample: Option<(usize, Usage)>) {
        self.samples.extend(sample);
    }

    /// The samples of the last process.
    fn last(&self) -> &[(usize, Usage)] {
        let Some((life, _)) = self.samples.last() else { return &[] };
        let first = self.samples.partition_point(|(number, _)| number < life);
        self.samples.get(first..).unwrap_or_default()
    }

    /// How many samples the last process has.
    pub(super) fn last_len(&self) -> usize {
        self.last().len()
    }

    /// A number of the last process; `None` where it was never seen.
    pub(super) fn row(&self, number: impl Fn(&Usage) -> Option<u64>) -> Option<Row> {
        let numbers: Vec<u64> = self.last().iter().filter_map(|(_, usage)| number(usage)).collect();
        let part = |which: usize| median(&numbers[numbers.len() * which / PARTS..numbers.len() * (which + 1) / PARTS]);
        Some(Row { start: part(1)?, middle: part(PARTS / 2)?, end: part(PARTS - 1)?, max: *numbers.iter().max()? })
    }

    /// The most that any process before the last took.
    pub(super) fn peak_before(&self, number: impl Fn(&Usage) -> Option<u64>) -> Option<u64> {
        let earlier = self.samples.len() - self.last().len();
        self.samples.iter().take(earlier).filter_map(|(_, usage)| number(usage)).max()
    }

    /// What has grown too much in the last process; `None` where it is too young to tell.
    pub(super) fn growth(&self) -> Option<Vec<&'static str>> {
        if self.last_len() < SAMPLES_MIN {
            return None;
        }
        let grown = |row: Option<Row>, most| row.is_some_and(|row| row.end > row.start + most);
        let judged = [
            ("RSS", grown(self.row(|usage| Some(usage.rss_kb)), RSS_GROWTH_MAX_KB)),
            ("descriptors", grown(self.row(|usage| usage.descriptors), DESCRIPTORS_GROWTH_MAX)),
            ("threads", grown(self.row(|usage| Some(usage.threads)), THREADS_GROWTH_MAX)),
        ];
        Some(judged.into_iter().filter_map(|(what, grown)| grown.then_some(what)).collect())
    }
}

fn median(numbers: &[u64]) -> Option<u64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(samples: impl IntoIterator<Item = (usize, u64, u64)>) -> Course {
        let mut course = Course::default();
        for (life, rss_kb, descriptors) in samples {
            course.extend(Some((life, Usage { rss_kb, descriptors: Some(descriptors), threads: 3 })));
        }
        course
    }

    #[test]
    fn a_process_is_compared_with_itself_alone_and_after_its_youth() {
        let small = (0..50).map(|_| (1, 1_000, 90));
        let young = (0..100).map(|n| (2, n * 100, 20));
        let old = (0..500).map(|n| (2, 10_000 + n % 7, 20 + n % 3));
        let course = course(small.chain(young).chain(old));
        assert_eq!(course.growth(), Some(vec![]));
        let row = course.row(|usage| Some(usage.rss_kb)).unwrap();
        assert_eq!((row.start / 10, row.middle / 10, row.end / 10, row.max), (1_000, 1_000, 1_000, 10_006));
        assert_eq!(course.peak_before(|usage| usage.descriptors), Some(90));
    }

    #[test]
    fn what_grows_all_the_time_is_seen() {
        let leaking = course((0..600).map(|n| (1, 9_000 + n * 12, 20)));
        assert_eq!(leaking.growth(), Some(vec!["RSS"]));
        let leaking = course((0..600).map(|n| (1, 9_000, 20 + n / 50)));
        assert_eq!(leaking.growth(), Some(vec!["descriptors"]));
        let short = course((0..59).map(|n| (1, n * 10_000, n)));
        assert_eq!(short.growth(), None);
    }
}
