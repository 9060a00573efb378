//! The surface of the pond: a height field with the wave equation, simulated on the CPU.

/// Points along x.
pub(crate) const COLUMNS: usize = 160;
/// Points along z.
pub(crate) const ROWS: usize = 125;
/// Distance of two neighbouring points.
pub(crate) const SPACING: f32 = 0.02;
/// Half the pond's extent along x and z.
pub(crate) const HALF: [f32; 2] =
    [0.5 * SPACING * (COLUMNS as f32 - 1.0), 0.5 * SPACING * (ROWS as f32 - 1.0)];

/// Squared wave speed in cells per step; below 0.5 the simulation is stable.
const STIFFNESS: f32 = 0.22;
const DAMPING: f32 = 0.9945;
/// How wide a splash is, in cells.
const SPLASH_RADIUS: i32 = 5;

/// Ripples, and a slow swell below them.
#[derive(Debug, Clone)]
pub(crate) struct Pond {
    /// Ripple heights and speeds, row by row.
    ripple: Vec<f32>,
    speed: Vec<f32>,
    /// Ripple and swell together: what is drawn.
    height: Vec<f32>,
}

impl Pond {
    pub(crate) fn new() -> Self {
        let still = vec![0.0; COLUMNS * ROWS];
        Self { ripple: still.clone(), speed: still.clone(), height: still }
    }

    /// Advances the waves by one frame; `time` drives the swell.
    pub(crate) fn step(&mut self, time: f32) {
        for _ in 0..2 {
            self.propagate();
        }
        self.add_swell(time);
    }

    /// Pushes the surface down around a point, and up in a ring about it: no water is lost.
    pub(crate) fn splash(&mut self, x: f32, z: f32, strength: f32) {
        let (column, row) = cell(x, z);
        for dz in -SPLASH_RADIUS..=SPLASH_RADIUS {
            for dx in -SPLASH_RADIUS..=SPLASH_RADIUS {
                let (c, r) = (column.checked_add_signed(dx as isize), row.checked_add_signed(dz as isize));
                if let (Some(c @ 0..COLUMNS), Some(r @ 0..ROWS)) = (c, r) {
                    // The Laplacian of a bell curve, whose integral is zero.
                    let distance = 5.0 * (dx * dx + dz * dz) as f32 / (SPLASH_RADIUS * SPLASH_RADIUS) as f32;
                    self.speed[r * COLUMNS + c] -= strength * (1.0 - distance) * (-distance).exp();
                }
            }
        }
    }

    /// The height of the surface at a place.
    pub(crate) fn height_at(&self, x: f32, z: f32) -> f32 {
        let (column, row) = cell(x, z);
        self.height[row * COLUMNS + column]
    }

    /// Calls `point` for every grid point, in order, with x, height, z and the slopes along x and z.
    pub(crate) fn for_each_point(&self, mut point: impl FnMut([f32; 3], [f32; 2])) {
        let scale = 0.5 / SPACING;
        for row in 0..ROWS {
            let line = |r: usize| &self.height[r * COLUMNS..][..COLUMNS];
            let (here, before, after) =
                (line(row), line(row.saturating_sub(1)), line((row + 1).min(ROWS - 1)));
            let z = row as f32 * SPACING - HALF[1];
            for column in 0..COLUMNS {
                let (left, right) = (here[column.saturating_sub(1)], here[(column + 1).min(COLUMNS - 1)]);
                let slopes = [(right - left) * scale, (after[column] - before[column]) * scale];
                point([column as f32 * SPACING - HALF[0], here[column], z], slopes);
            }
        }
    }

    /// One step of the wave equation; the edges reflect.
    fn propagate(&mut self) {
        for row in 0..ROWS {
            let line = |r: usize| &self.ripple[r * COLUMNS..][..COLUMNS];
            let (here, before, after) =
                (line(row), line(row.saturating_sub(1)), line((row + 1).min(ROWS - 1)));
            let speed = &mut self.speed[row * COLUMNS..][..COLUMNS];
            let mut pull = |column: usize, left: usize, right: usize| {
                let around = before[column] + after[column] + here[left] + here[right];
                speed[column] = (speed[column] + STIFFNESS * (around - 4.0 * here[column])) * DAMPING;
            };
            pull(0, 0, 1);
            for column in 1..COLUMNS - 1 {
                pull(column, column - 1, column + 1);
            }
            pull(COLUMNS - 1, COLUMNS - 2, COLUMNS - 1);
        }
        for (ripple, speed) in self.ripple.iter_mut().zip(&self.speed) {
            *ripple = (*ripple + speed) * 0.999;
        }
    }

    /// Adds two crossing swells, each a product of a wave along x and one along z.
    fn add_swell(&mut self, time: f32) {
        let along = |count: usize, wave: &dyn Fn(f32) -> [f32; 2]| -> Vec<[f32; 2]> {
            (0..count).map(|i| wave(i as f32 * SPACING)).collect()
        };
        let by_column = along(COLUMNS, &|x| [(3.1 * x - 1.3 * time).sin(), (2.2 * x + 0.9 * time).cos()]);
        let by_row = along(ROWS, &|z| [(2.7 * z + 0.7 * time).cos(), (4.1 * z - 1.1 * time).sin()]);
        for (row, z) in by_row.iter().enumerate() {
            let height = &mut self.height[row * COLUMNS..][..COLUMNS];
            let ripple = &self.ripple[row * COLUMNS..][..COLUMNS];
            for ((height, ripple), x) in height.iter_mut().zip(ripple).zip(&by_column) {
                *height = ripple + 0.055 * x[0] * z[0] + 0.04 * x[1] * z[1];
            }
        }
    }
}

/// The grid point next to a place; places outside count as on the edge.
fn cell(x: f32, z: f32) -> (usize, usize) {
    let index = |at: f32, half: f32, count: usize| {
        #[expect(clippy::cast_possible_truncation, reason = "clamped to the grid; `as` saturates")]
        let index = ((at + half) / SPACING).round().clamp(0.0, count as f32 - 1.0) as usize;
        index
    };
    (index(x, HALF[0], COLUMNS), index(z, HALF[1], ROWS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splash_spreads_and_dies_down() {
        let mut pond = Pond::new();
        pond.splash(0.0, 0.0, 0.05);
        let far = ROWS / 2 * COLUMNS + COLUMNS / 2 + 30;

        (0..80).for_each(|_| pond.propagate());
        let reached = pond.ripple[far].abs();
        (0..4000).for_each(|_| pond.propagate());

        assert!(reached > 0.0);
        assert!(pond.ripple.iter().all(|h| h.abs() < 0.01));
    }
}
