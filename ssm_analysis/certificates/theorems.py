"""The theorems behind the verdicts: what each says, under which hypotheses, why, and what it does not say."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Theorem:
    """One theorem.

    Parameters
    ----------
    key
        What certificates call it.
    title
        A few words.
    statement, hypotheses, proof
        In text; the proof as far as a reader needs it to redo it.
    silent
        What it does not say.
    """

    key: str
    title: str
    statement: str
    hypotheses: str
    proof: str
    silent: str


_ALL = (
    Theorem(
        key="sign",
        title="Sign of the log-poles",
        statement="A diagonal system is asymptotically stable if and only if Re log(lambda) < 0 for every mode.",
        hypotheses="The sign of Re log(lambda) is that of a product of stored numbers, or of functions of them with a known sign "
        "(exp and softplus are positive); zero-order hold and the bilinear rule both keep the sign of delta Re a.",
        proof="|lambda| = exp(Re log lambda). For the bilinear rule |1+w|^2 - |1-w|^2 = 4 Re w with w = delta a / 2.",
        silent="Whether the pole still lies inside the circle once it is rounded (pole_inside), or how fast it decays: see the rate.",
    ),
    Theorem(
        key="log-log",
        title="LRU",
        statement="|lambda| = exp(-exp(nu)) < 1 for every real nu.",
        hypotheses="nu is finite.",
        proof="exp(nu) > 0 as a real number, even where it underflows.",
        silent="Whether it is executed as a number below 1: exp(-exp(nu)) rounds to 1 below nu = -17.4 in 32 bits, see pole_inside.",
    ),
    Theorem(
        key="DPLR",
        title="Dissipative, so its Cayley transform contracts",
        statement="If A = Lambda - P P^* with Re Lambda < 0 and delta > 0, then A_d = (1 - delta A/2)^{-1} (1 + delta A/2) satisfies "
        "||A_d||^2 <= 1 - 2 delta m / (1 + delta ||A||/2)^2 with m = min(-Re Lambda).",
        hypotheses="Every -Re Lambda > 0 and every step > 0, by the sign of the stored numbers; steps of one's own per state "
        "are the same statement in the norm x^* diag(1/delta) x.",
        proof="For x' = A_d x let z = (x + x')/2: x' - x = delta A z, so |x'|^2 - |x|^2 = 2 delta Re z^* A z <= -2 delta m |z|^2, "
        "and x = (1 - delta A/2) z gives |x| <= (1 + delta ||A||/2) |z|.",
        silent="How fast the state decays in truth: the rate is pessimistic by a factor of about 5 for HiPPO matrices.",
    ),
    Theorem(
        key="triangular",
        title="Triangular matrices",
        statement="The eigenvalues of a triangular matrix are its diagonal entries.",
        hypotheses="All entries on one side of the diagonal are exactly 0.",
        proof="det(z - A) is the product of z - a_ii.",
        silent="How large powers of A become before they decay.",
    ),
    Theorem(
        key="norm",
        title="A norm below 1",
        statement="If ||A||_1 ||A||_inf < 1, or ||A||_F < 1, then A is a contraction and all |lambda| < 1.",
        hypotheses="The sums are rounded upwards.",
        proof="||A||_2^2 <= ||A||_1 ||A||_inf.",
        silent="Anything where the norm is 1 or more.",
    ),
    Theorem(
        key="Stein",
        title="Stein's inequality by Cholesky",
        statement="All |lambda| < 1 if P > 0 and P - A P A^* > 0 for some P; then |lambda|^2 <= 1 - g / ||P|| for P - A P A^* >= g.",
        hypotheses="P is a computed solution of P = A P A^* + 1, symmetric in doubles and thereby an exact object; Cholesky "
        "succeeds on both matrices after everything that rounding can add was taken off.",
        proof="For a left eigenvector x: x^*(P - A P A^*) x = (1 - |lambda|^2) x^* P x. Cholesky: Rump, BIT 46 (2006) 433-452.",
        silent="Anything about A if it fails: near the circle the solution is too large for double precision.",
    ),
    Theorem(
        key="Gershgorin",
        title="Discs around computed eigenvalues",
        statement="With approximate eigenvectors V and W close to their inverse, each connected group of k discs around the diagonal "
        "of W A V holds exactly k eigenvalues of A.",
        hypotheses="||1 - W V|| < 1, with the rounding of every product counted.",
        proof="V^{-1} A V = L + (W V)^{-1} W (A V - V L), and Gershgorin's theorem for its rows; k by continuity in the off-diagonal part.",
        silent="Anything where eigenvectors are so ill-conditioned that the discs cover the circle.",
    ),
    Theorem(
        key="balls",
        title="Eigenvalues enclosed in ball arithmetic",
        statement="Each ball that Arb returns holds an eigenvalue, and together they hold all of them.",
        hypotheses="The entries are exact numbers; the precision is raised until every ball is on one side of the circle.",
        proof="Johansson, Arb, IEEE Trans. Computers 66 (2017) 1281-1292; Rump, Acta Numerica 19 (2010), section 13.4.",
        silent="Anything where an eigenvalue lies on the circle, other than +1 and -1, which rational determinants decide.",
    ),
    Theorem(
        key="determinant",
        title="Eigenvalue +1 or -1",
        statement="A real A with det(A - 1) = 0 or det(A + 1) = 0 is not asymptotically stable.",
        hypotheses="The determinant is computed in rational numbers.",
        proof="It is the characteristic polynomial at +1 or -1.",
        silent="Anything about other points of the circle.",
    ),
    Theorem(
        key="BIBO",
        title="Bounded inputs",
        statement="|x_i| <= sup_k ||b_i u_k|| / (1 - |lambda_i|) for a diagonal system that starts at rest, and |y| <= |C| |x| + |D u|. "
        "For a full one ||x|| <= c sup_k ||B u_k|| / (1 - r) where ||A^k|| <= c r^k.",
        hypotheses="Every |lambda_i| < 1, and a bound of the input; c and r < 1 from DPLR, a norm, or Stein.",
        proof="The geometric series.",
        silent="What the phases of complex modes are good for: they are ignored; l1_below answers for the output without that loss.",
    ),
    Theorem(
        key="branch and bound",
        title="Arcs of the circle",
        statement="The H-infinity norm lies between the two bounds.",
        hypotheses="Taylor bounds of the response on every arc of the circle, rounding counted by operations.",
        proof="In the module arc_enclosures.",
        silent="That the elementary functions of the C library are right: there they are taken to be so to 4 units in the last place.",
    ),
    Theorem(
        key="truncated sum",
        title="Partial sums of the impulse response",
        statement="The l1 norm lies between a partial sum of |h| and the same with a bound of the rest.",
        hypotheses="A diagonal system with all |lambda| < 1; the rounding of the sums is counted.",
        proof="The rest is at most sum_i |c_i b_i| |lambda_i|^K / (1 - |lambda_i|).",
        silent="That the elementary functions of the C library are right: there they are taken to be so to 4 units in the last place.",
    ),
    Theorem(
        key="T1",
        title="Convex combinations",
        statement="h' = lambda h + delta b with lambda = exp(-a delta), a, delta > 0 keeps |h| <= max(|h_0|, sup |tau|), "
        "tau = phi(delta) b, phi(delta) = delta / (1 - exp(-a delta)) <= delta/2 + sqrt(1/a^2 + delta^2/4).",
        hypotheses="a > 0 and delta > 0, and sup |tau| over all inputs that can come.",
        proof="h' = lambda h + (1 - lambda) tau is a convex combination. With y = a delta/2, a phi = y + y coth y, and "
        "y^2 coth^2 y = y^2 + (y / sinh y)^2 <= y^2 + 1.",
        silent="How fast a disturbance is forgotten: no lower bound of delta is needed, so there may be none.",
    ),
    Theorem(
        key="T2",
        title="Uniform exponential stability",
        statement="|lambda_t ... lambda_s| <= exp(-r (t - s + 1)) with r = a min delta > 0, for every admissible input.",
        hypotheses="A positive lower bound of delta over all inputs that can come.",
        proof="Every factor is at most exp(-a min delta); |h| is a Lyapunov function common to all inputs.",
        silent="That the rate is useful: a tiny one is true and worth nothing. Read the half-life, and pole_inside beside it.",
    ),
    Theorem(
        key="T3",
        title="Exact range of what is linear",
        statement="A row w of the normalized input x, ||x|| <= r, has exactly the range [-||w|| r, ||w|| r]; behind a convolution with "
        "taps k it is ||k||_1 ||w|| r.",
        hypotheses="A norm in front (RMSNorm, LayerNorm), or a bound of ||u||.",
        proof="Cauchy-Schwarz, attained by x = r w / ||w|| (the ball is open by the eps of the norm). LayerNorm: w is "
        "first made to sum to 0.",
        silent="Whether the layers in front can produce that input.",
    ),
    Theorem(
        key="T4",
        title="Half-linear bound through SiLU",
        statement="For u = silu(s): R u <= R c0/2 + r/2 sum_j ||(R k_j) W|| + max{R+ v : 0 <= v <= rho, ||v|| <= S/2}.",
        hypotheses="s = c0 + sum_j k_j W x_{t-j} with ||x|| <= r, |(s/2) tanh(s/2)| <= rho entry by entry, ||s|| <= S by singular values.",
        proof="silu(s) = s/2 + v with v = (s/2) tanh(s/2) in [0, |s|/2]. The linear half is exact; the rest is at most "
        "sum_c max_v (R+_c v_c - mu v_c^2/2) + mu S^2/8 for every mu > 0.",
        silent="How close it is: 1.4 to 2.5 times above what inputs were seen to reach.",
    ),
    Theorem(
        key="T5",
        title="Slices along one channel",
        statement="The bounds of T1 to T4 hold together on each slice z <= <X, g>/(|g| R) <= z' of the stacked window X, "
        "and the sup of the "
        "product is at most the largest over the slices.",
        hypotheses="As T4, with g the weights of the channel whose state is bounded; its s is c0 + z |g| R.",
        proof="X = z R g/|g| + X', ||X'|| <= R sqrt(1 - z^2), in every linear form and in the bound S of ||s||.",
        silent="What directions other than g do together: they are still bounded factor by factor.",
    ),
    Theorem(
        key="RMS",
        title="Normalized selection",
        statement="Where r, B and C are divided by their root mean squares, ||r|| <= sqrt(rank), |B_n| <= |weight_n| sqrt(d_state): "
        "ranges of the step without any assumption on the input.",
        hypotheses="The eps under the root is not negative.",
        proof="||v / rms(v)||_2 <= sqrt(length), and T3.",
        silent="How large the input u of the recurrence is.",
    ),
    Theorem(
        key="RG-LRU energy",
        title="Square-root bound",
        statement="|h_T| <= U sqrt(T) for any gates in [0, 1]; with a <= a_max < 1 also |h| <= U sqrt((1 + a_max)/(1 - "
        "a_max)), U = sup |i x|.",
        hypotheses="h' = a h + sqrt(1 - a^2) i x; a bound U of the gated input.",
        proof="(a h + sqrt(1-a^2) w)^2 <= h^2 + w^2 by Cauchy-Schwarz; and h' = a h + (1 - a) tau is a convex combination with "
        "tau = sqrt((1+a)/(1-a)) w. Both are attained.",
        silent="How tight the bound is for gates that are never open. (A first token at gain 1 changes nothing: U covers it.)",
    ),
    Theorem(
        key="T6",
        title="Overflow of a state that is rounded at every step",
        statement="|h| <= M, the largest number of the type, is kept by h <- fl(fl(lambda h) + x) if |x| <= (1 - lambda) tau with "
        "tau <= (1 - 10 u) M at every step, even where lambda rounds to 1. (M/2 for M in 32 bits, where exp may be off by a unit.)",
        hypotheses="Multiplication and addition round to nearest, ties to even; a sequential scan; lambda and x are computed in 32 bits or "
        "more and rounded once. The bound of |tau| is raised by (1 + 2 u)(1 + 2^-8) for what is in front of the scan.",
        proof="Rounding is monotone, so h = M is the worst. Write M = 2 P (1 - u), P a power of two: numbers next to M "
        "are 2 u P apart, and "
        "fl(y) <= M up to y < M + u P. Let the rounded lambda be 1 - k u, so 1 - lambda <= (k + 1/2) u. While k u "
        "<= 1/8, lambda M = M - 2 k u P + "
        "2 k u^2 P rounds to M - 2 k u P, and x <= (k + 1/2) u tau < (k + 1/2) 2 u P, so the sum is below M + u P. For smaller lambda "
        "(below 0.88 already) 1 - lambda > 0.11 and (1 - lambda)(M - tau) >= 0.11 10 u M > 2 u P, more than "
        "rounding lambda and the product can add.",
        silent="What scans in another order do: trees and chunks add up to one such step per level.",
    ),
    Theorem(
        key="pole rounding",
        title="A pole as it is executed",
        statement="exp(-x) rounds to 1 if x < u/2 and to a number below 1 if x >= 4 u, u the unit roundoff of the type.",
        hypotheses="exp is within one unit in the last place.",
        proof="The doubles below 1 are spaced by u; 1 - exp(-x) >= x - x^2/2.",
        silent="What happens between the two: that depends on the last bit of exp.",
    ),
    Theorem(
        key="rounded entries",
        title="A matrix as it is stored",
        statement="The statement about eigenvalues holds for the matrix whose entries are rounded to the type.",
        hypotheses="Rounding to nearest of every entry; then as Stein, Gershgorin or balls.",
        proof="The rounded matrix is an exact object.",
        silent="The rounding of the products in a run.",
    ),
    Theorem(
        key="residual",
        title="Bounds of blocks add up",
        statement="x_{l+1} = x_l + f_l(n_l(x_l)) has |x_L,i| <= |x_0,i| + sum_l sup |f_l,i|, each sup over the ball that the norm n_l "
        "maps everything into. For Mamba |f_i| <= sum_e |W_ie| sup |y_e| sup |silu(z_e)| + |b_i|; behind a gated norm of weight w "
        "|f_i| <= ||W_i diag(w)|| sqrt(d) + |b_i|, whatever the state.",
        hypotheses="Every block has a norm of its own in front and is added to the residual stream, and nothing else is; bounds of the "
        "scans y, and T3 for the gate z, which is linear in what the norm lets through.",
        proof="The triangle inequality; sup |f_l| does not depend on x_l. ||v / rms(v)||_2 <= sqrt(d) for the gated norm.",
        silent="How differences between two runs grow: there every norm multiplies by up to max|weight| / sqrt(eps), and the product over "
        "the blocks says nothing. How a run rounds its sums.",
    ),
)

THEOREMS: dict[str, Theorem] = {theorem.key: theorem for theorem in _ALL}
