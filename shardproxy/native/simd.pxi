# Which vector instructions the splitter uses: the Python face of core/simd/. Included by _native.pyx.

cdef extern from "simd/masks.h":
    const char *sp_simd_name()
    int sp_simd_force(const char *name)
    const char *const *sp_simd_names()


def simd():
    """Return the name of the active path: avx512, avx2, sse2, neon or plain."""
    return sp_simd_name().decode("ascii")


def simd_paths():
    """Return the names of the paths that run on this machine, the best first."""
    cdef const char *const *names = sp_simd_names()
    found = []
    while names[0] != NULL:
        found.append(names[0].decode("ascii"))
        names += 1
    return found


def force_simd(name):
    """Use this path from now on; None: the best one. ValueError if it does not run here."""
    cdef bytes wanted = b"" if name is None else name.encode("ascii")
    if sp_simd_force(NULL if name is None else <const char *>wanted):
        raise ValueError(f"no such path on this machine: {name!r}")
