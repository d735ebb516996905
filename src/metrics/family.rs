//! One number for each value of a label whose values are few and all known.

use std::marker::PhantomData;

use super::{Counter, Gauge, histogram::Histogram};

/// A value of a label, or of several.
pub trait Label: Copy {
    /// Whether a number is shown only once it is not 0: for combinations that mostly never are.
    const SPARSE: bool = false;

    /// Every value, in the order of their index.
    fn all() -> Vec<Self>;

    /// Its place among all.
    fn index(self) -> usize;

    /// As it is written in the text form, such as `reason="closed"`.
    fn text(self) -> String;
}

impl<A: Label, B: Label> Label for (A, B) {
    const SPARSE: bool = A::SPARSE || B::SPARSE;

    fn all() -> Vec<Self> {
        let pairs = |a: A| B::all().into_iter().map(move |b| (a, b));
        A::all().into_iter().flat_map(pairs).collect()
    }

    fn index(self) -> usize {
        self.0.index() * B::all().len() + self.1.index()
    }

    fn text(self) -> String {
        format!("{},{}", self.0.text(), self.1.text())
    }
}

/// Numbers by label.
#[derive(Debug)]
pub struct Family<L, T>(Box<[T]>, PhantomData<L>);

impl<L: Label, T> Family<L, T> {
    /// One number for each value.
    pub fn new(mut one: impl FnMut() -> T) -> Family<L, T> {
        let all = L::all().into_iter().map(|_| one());
        Family(all.collect(), PhantomData)
    }

    /// The number of a value.
    pub fn at(&self, label: L) -> &T {
        &self.0[label.index()]
    }

    /// Every number with its value.
    pub fn iter(&self) -> impl Iterator<Item = (L, &T)> {
        L::all().into_iter().zip(&self.0)
    }
}

impl<L: Label, T: Default> Default for Family<L, T> {
    fn default() -> Self {
        Family::new(T::default)
    }
}

impl<L: Label> Family<L, Counter> {
    /// Adds one.
    pub fn inc(&self, label: L) {
        self.at(label).inc();
    }

    /// How many for this value.
    pub fn get(&self, label: L) -> u64 {
        self.at(label).get()
    }

    /// How many for any value.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

impl<L: Label> Family<L, Gauge> {
    /// Counts something in for as long as what is returned lives.
    pub fn during(&self, label: L) -> During<'_> {
        self.at(label).add(1);
        During(self.at(label))
    }

    /// The sum over all values.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Gauge::get).sum()
    }
}

impl<L: Label> Family<L, Histogram> {
    /// Counts a value.
    pub fn observe(&self, label: L, value: u64) {
        self.at(label).observe(value);
    }
}

/// Something that is counted while it lasts.
#[derive(Debug)]
pub struct During<'a>(&'a Gauge);

impl Drop for During<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}
