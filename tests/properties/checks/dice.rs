//! Numbers that look random and are the same for the same seed.

/// A generator (xorshift, 64 bits).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds are far apart after this, and none is zero.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One whose seed is a hash of `data` (FNV-1a).
    pub(crate) fn of(data: &[u8]) -> Self {
        Self::new(data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.number() >> 20) % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(crate) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// A number of any size: as many small ones as large ones.
    pub(crate) fn magnitude(&mut self) -> u64 {
        let bits = self.below(64);
        self.number() >> bits
    }

    /// Changes, adds or takes away a byte.
    pub(crate) fn spoil(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        match self.below(3) {
            0 if at < bytes.len() => bytes[at] = self.byte(),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            _ => bytes.insert(at, self.byte()),
        }
    }
}
