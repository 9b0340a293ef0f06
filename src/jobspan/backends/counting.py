"""How many jobs a request means on one machine, in joblib's notation."""

from __future__ import annotations

__all__ = ["jobs_asked_for"]


def jobs_asked_for(n_jobs: int, available: int) -> int:
    """Return the number of jobs for a request in joblib's notation.

    Parameters
    ----------
    n_jobs : int
        Above 0: so many; -1: all there are; -2: all but one, and so on.
    available : int
        How many there are.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        If `n_jobs` is 0.

    Examples
    --------
    >>> jobs_asked_for(-2, available=8)
    7
    """
    if n_jobs == 0:
        raise ValueError(
            "n_jobs == 0 in Parallel has no meaning; pass 1 to run one call at a time, "
            "or -1 to use all cores"
        )
    if n_jobs < 0:
        return max(available + 1 + n_jobs, 1)
    return n_jobs
