"""Special functions that the IR has no op for, composed in double precision and rounded once."""

from aino_ir.frontends.special.airy import airy
from aino_ir.frontends.special.bessel import bessel_first, bessel_second, spherical_bessel
from aino_ir.frontends.special.doubles import Doubles
from aino_ir.frontends.special.error import inverse_error, normal_quantile, scaled_complement
from aino_ir.frontends.special.gamma import (
    digamma,
    hurwitz_zeta,
    incomplete_gamma,
    log_gamma,
    polygamma,
)
from aino_ir.frontends.special.modified_bessel import modified_first, modified_second

__all__ = [
    "Doubles",
    "airy",
    "bessel_first",
    "bessel_second",
    "digamma",
    "hurwitz_zeta",
    "incomplete_gamma",
    "inverse_error",
    "log_gamma",
    "modified_first",
    "modified_second",
    "normal_quantile",
    "polygamma",
    "scaled_complement",
    "spherical_bessel",
]
