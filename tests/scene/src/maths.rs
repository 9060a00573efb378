//! The little linear algebra a camera needs.

/// A vector or point in space.
pub(crate) type Vec3 = [f32; 3];

/// A 4 x 4 matrix, column by column, as shaders want it.
pub(crate) type Mat4 = [[f32; 4]; 4];

pub(crate) fn sub(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(crate) fn dot(a: Vec3, b: Vec3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

pub(crate) fn normalize(a: Vec3) -> Vec3 {
    let length = dot(a, a).sqrt();
    a.map(|x| x / length)
}

/// A camera at `eye` that looks at `target`, up being +y.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Camera {
    pub(crate) eye: Vec3,
    pub(crate) target: Vec3,
    /// Half of the vertical field of view, as a tangent.
    pub(crate) half_height: f32,
    /// Width over height of the picture.
    pub(crate) aspect: f32,
}

impl Camera {
    /// The camera's axes in the world: right, up, and backwards (away from the target).
    pub(crate) fn axes(&self) -> [Vec3; 3] {
        let back = normalize(sub(self.eye, self.target));
        let right = normalize(cross([0.0, 1.0, 0.0], back));
        [right, cross(back, right), back]
    }

    /// World to clip space: y up, depth from 0 at the near plane to 1 at the far one.
    pub(crate) fn view_projection(&self) -> Mat4 {
        const NEAR: f32 = 0.1;
        const FAR: f32 = 30.0;
        let [right, up, back] = self.axes();
        let (sx, sy) = (1.0 / (self.half_height * self.aspect), 1.0 / self.half_height);
        let (depth, shift) = (FAR / (NEAR - FAR), NEAR * FAR / (NEAR - FAR));
        // Rows of the view matrix scaled by the projection; the last row is the distance before the eye.
        let row = |axis: Vec3, scale: f32, add: f32| {
            [axis[0] * scale, axis[1] * scale, axis[2] * scale, -dot(axis, self.eye) * scale + add]
        };
        let rows = [row(right, sx, 0.0), row(up, sy, 0.0), row(back, depth, shift), row(back, -1.0, 0.0)];
        std::array::from_fn(|column| std::array::from_fn(|line| rows[line][column]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_lands_in_the_middle_of_the_picture() {
        let camera = Camera { eye: [3.0, 2.0, 1.0], target: [0.0, 0.5, 0.0], half_height: 0.5, aspect: 1.5 };
        let matrix = camera.view_projection();

        let point = [camera.target[0], camera.target[1], camera.target[2], 1.0];
        let clip: [f32; 4] = std::array::from_fn(|line| (0..4).map(|c| matrix[c][line] * point[c]).sum());

        assert!(clip[0].abs() < 1e-5 && clip[1].abs() < 1e-5);
        assert!(clip[3] > 0.0 && clip[2] > 0.0 && clip[2] < clip[3]);
    }
}
