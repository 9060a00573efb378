//! What moves: the pond, the balls that bounce on it, the lights above it, and the camera.
//!
//! The world lives in ordinary memory and advances by a fixed step per frame, so that two worlds that start
//! alike stay alike: the measurement gives both sides exactly the same work.

use crate::maths::{Camera, Vec3};
use crate::pond::{HALF, Pond};

/// How many balls bounce.
pub(crate) const BALLS: usize = 140;
/// How many lights circle above the pond.
pub(crate) const LIGHTS: usize = 3;

const STEP: f32 = 1.0 / 60.0;
const GRAVITY: f32 = 2.6;
/// Frames simulated before the first one is shown, so that it has waves already.
const WARM_UP: u32 = 150;

/// A bouncing ball.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ball {
    pub(crate) position: Vec3,
    speed: Vec3,
    pub(crate) radius: f32,
    /// Its colour's place on the ramp.
    pub(crate) level: u8,
}

/// The whole state of the scene.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) pond: Pond,
    pub(crate) balls: Vec<Ball>,
    random: Random,
    steps: u32,
}

impl World {
    /// The world at the start: always the same.
    pub(crate) fn new() -> Self {
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        let balls = (0..BALLS).map(|index| Ball::thrown(index, &mut random)).collect();
        let mut world = Self { pond: Pond::new(), balls, random, steps: 0 };
        (0..WARM_UP).for_each(|_| world.step());
        world
    }

    /// Advances by one frame.
    pub(crate) fn step(&mut self) {
        self.steps += 1;
        self.pond.step(self.time());
        for ball in &mut self.balls {
            ball.step(&mut self.pond, &mut self.random);
        }
    }

    /// Seconds since the start.
    pub(crate) fn time(&self) -> f32 {
        self.steps as f32 * STEP
    }

    /// The camera sways slowly in front of the pond.
    pub(crate) fn camera(&self, aspect: f32) -> Camera {
        let angle = 0.55 * (0.21 * self.time()).sin();
        let eye = [3.1 * angle.sin(), 1.75 + 0.2 * (0.17 * self.time()).sin(), 3.1 * angle.cos()];
        Camera { eye, target: [0.0, -0.12, 0.2], half_height: 0.43, aspect }
    }

    /// Where the lights are.
    pub(crate) fn lights(&self) -> [Vec3; LIGHTS] {
        std::array::from_fn(|index| {
            let phase = 0.62 * self.time() + index as f32 * std::f32::consts::TAU / LIGHTS as f32;
            let height = 0.42 + 0.1 * (1.7 * phase).sin();
            [HALF[0] * 0.72 * phase.sin(), height, HALF[1] * 0.66 * (1.31 * phase).cos()]
        })
    }
}

impl Ball {
    fn thrown(index: usize, random: &mut Random) -> Self {
        let position = [
            random.between(-HALF[0], HALF[0]) * 0.95,
            random.between(0.2, 1.0),
            random.between(-HALF[1], HALF[1]) * 0.95,
        ];
        let speed = [random.between(-0.3, 0.3), 0.0, random.between(-0.3, 0.3)];
        #[expect(clippy::cast_possible_truncation, reason = "the remainder fits")]
        let level = (index * 37 % 256) as u8;
        Self { position, speed, radius: random.between(0.018, 0.034), level }
    }

    fn step(&mut self, pond: &mut Pond, random: &mut Random) {
        self.speed[1] -= GRAVITY * STEP;
        for (at, speed) in self.position.iter_mut().zip(self.speed) {
            *at += speed * STEP;
        }
        for (axis, half) in [(0, HALF[0]), (2, HALF[1])] {
            if self.position[axis].abs() > half {
                self.position[axis] = self.position[axis].clamp(-half, half);
                self.speed[axis] = -self.speed[axis];
            }
        }
        let surface = pond.height_at(self.position[0], self.position[2]) + self.radius;
        if self.position[1] < surface && self.speed[1] < 0.0 {
            pond.splash(self.position[0], self.position[2], 0.5 * self.radius * -self.speed[1]);
            self.position[1] = surface;
            self.speed = [random.between(-0.3, 0.3), random.between(0.7, 1.7), random.between(-0.3, 0.3)];
        }
    }
}

/// A small generator of numbers that look random (xorshift).
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn between(&mut self, low: f32, high: f32) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        low + (high - low) * ((self.0 >> 40) as f32 / (1u64 << 24) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_worlds_stay_alike_and_in_bounds() {
        let (mut one, mut other) = (World::new(), World::new());

        (0..200).for_each(|_| one.step());
        (0..200).for_each(|_| other.step());

        for (a, b) in one.balls.iter().zip(&other.balls) {
            assert_eq!(a.position, b.position);
            assert!(a.position.iter().all(|x| x.is_finite() && x.abs() < 3.0));
        }
    }
}
