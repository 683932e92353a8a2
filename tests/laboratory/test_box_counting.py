"""The box-counting dimension of sets whose dimension is known."""

import numpy as np
import pytest

from experiments.trainability_boundary.box_counting import boundary, box_counts, dimension


def sierpinski_carpet(level):
    cells = np.ones((1, 1), bool)
    pattern = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    for _ in range(level):
        cells = np.kron(cells, pattern)
    return cells


def sierpinski_triangle(side):
    rows, columns = np.indices((side, side))
    return (rows & columns) == 0


def disc(side):
    rows, columns = np.indices((side, side)) - side / 2
    return rows**2 + columns**2 < (0.4 * side) ** 2


@pytest.mark.parametrize("side", [64, 100, 255])
def test_an_area_has_dimension_two_and_a_line_one(side):
    line = np.zeros((side, side), bool)
    line[side // 2] = True
    np.testing.assert_allclose(dimension(np.ones((side, side), bool)), 2, atol=0.05)
    np.testing.assert_allclose(dimension(line), 1, atol=0.05)


def test_points_and_nothing_have_dimension_zero():
    point = np.zeros((64, 64), bool)
    assert dimension(point) == 0
    point[20, 30] = True
    np.testing.assert_allclose(dimension(point), 0, atol=1e-12)


def test_sierpinskis_triangle_has_its_dimension():
    np.testing.assert_allclose(dimension(sierpinski_triangle(256)), np.log2(3), atol=1e-9)


def test_sierpinskis_carpet_has_nearly_its_dimension_though_its_holes_do_not_fit_the_boxes():
    expected = np.log(8) / np.log(3)
    np.testing.assert_allclose(dimension(sierpinski_carpet(5)), expected, atol=0.12)


def test_turning_a_picture_does_not_change_its_dimension_where_boxes_fit():
    cells = sierpinski_triangle(128)
    np.testing.assert_allclose(dimension(np.rot90(cells)), dimension(cells))


def test_the_boundary_of_a_disc_is_a_curve():
    np.testing.assert_allclose(dimension(boundary(disc(257))), 1, atol=0.06)


def test_the_boundary_does_not_depend_on_which_side_is_marked():
    region = disc(65)
    np.testing.assert_array_equal(boundary(region), boundary(~region))


def test_a_region_without_another_side_has_no_boundary():
    assert not boundary(np.ones((20, 20), bool)).any()


def test_boxes_stick_out_rather_than_leave_cells_out():
    cells = np.zeros((35, 35), bool)
    cells[34, 34] = True
    assert box_counts(cells) == {1: 1, 2: 1, 4: 1}
