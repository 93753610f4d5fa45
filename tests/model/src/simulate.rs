use crate::{Settings, Violation, World};

/// What a run from one seed has shown.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// How often the environment intervened.
    pub faults: usize,
    /// The promise that was broken.
    pub violation: Option<Violation>,
    /// What happened, if it was to be told.
    pub story: Vec<String>,
}

/// One run, in which the environment chooses by chance: the same seed gives the same run.
///
/// # Errors
/// The world cannot be made.
pub fn simulate(settings: &Settings, seed: u64, tell: bool) -> anyhow::Result<Simulated> {
    let mut chance = Chance(seed);
    // Some runs see many faults, others few.
    let rarity = 5 + chance.below(120);
    let mut world = World::new(settings)?;
    if tell {
        world.tell();
    }
    let mut faults = 0;
    while !world.is_over(settings) {
        let choices = world.choices(settings);
        let strikes = choices > 1 && chance.below(rarity) == 0;
        let choice = if strikes {
            1 + chance.below(u64::from(choices) - 1)
        } else {
            0
        };
        faults += usize::from(choice > 0);
        world.advance(settings, u8::try_from(choice).unwrap_or(0));
    }
    Ok(Simulated {
        faults,
        violation: world.violation().cloned(),
        story: world.story().to_vec(),
    })
}

/// Numbers by chance that are the same for a seed on every machine (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
