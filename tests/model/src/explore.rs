use std::collections::HashSet;

use crate::{Choice, Settings, Violation, World};

/// What an exhaustive exploration has found.
#[derive(Clone, Debug)]
pub struct Explored {
    /// Different states that were seen at points where the environment could choose.
    pub states: usize,
    /// Ways through the world that were followed to their end, or to a state seen before.
    pub paths: usize,
    /// The choices that lead to a broken promise, and which.
    pub violation: Option<(Vec<Choice>, Violation)>,
}

/// Follows every choice of the environment, within the settings' budget, until a promise is broken.
///
/// # Errors
/// The world cannot be made.
pub fn explore(settings: &Settings) -> anyhow::Result<Explored> {
    let mut seen: HashSet<u64> = HashSet::new();
    let mut paths = 0;
    let mut stack: Vec<(World, Vec<Choice>)> = vec![(World::new(settings)?, Vec::new())];
    while let Some((mut world, mut path)) = stack.pop() {
        paths += 1;
        while !world.is_over(settings) {
            let choices = world.choices(settings);
            if choices > 1 {
                if !seen.insert(world.fingerprint()) {
                    break;
                }
                for choice in 1..choices {
                    let mut other = world.clone();
                    let mut path = path.clone();
                    path.push(choice);
                    other.advance(settings, choice);
                    stack.push((other, path));
                }
                path.push(0);
            }
            world.advance(settings, 0);
        }
        if let Some(violation) = world.violation() {
            let found = Some((path, violation.clone()));
            return Ok(Explored {
                states: seen.len(),
                paths,
                violation: found,
            });
        }
    }
    Ok(Explored {
        states: seen.len(),
        paths,
        violation: None,
    })
}

/// Tells the story of one path again.
///
/// # Errors
/// The world cannot be made.
pub fn retell(settings: &Settings, path: &[Choice]) -> anyhow::Result<Vec<String>> {
    let mut world = World::new(settings)?;
    world.tell();
    let mut path = path.iter();
    while !world.is_over(settings) {
        let choice = if world.choices(settings) > 1 {
            path.next().copied().unwrap_or(0)
        } else {
            0
        };
        world.advance(settings, choice);
    }
    Ok(world.story().to_vec())
}
