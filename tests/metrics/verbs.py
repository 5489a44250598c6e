"""Verbs that may open the docstring of a function; a good verb that is missing is added here."""

VERBS = frozenset(
    """
    abort accept accumulate add adjust admit advance align allocate allow annotate answer append apply approximate arrange ask
    assemble assert assign attach average balance bisect bound box bring broadcast build cache calculate call cap capture cast
    center certify change check choose clamp clean clear clip close collapse collect color combine compare complete compose
    compress compute concatenate configure conjugate connect construct contract convert convolve copy correct count create cut
    decide decimate declare decode decompose decrease decrypt dedent deduplicate define delay delete derive describe detect
    determine diagonalize differentiate discard discover discretize display distribute divide double downcast draw drive drop dump
    embed emit empty enclose encode end ensure enter enumerate erase escape estimate evaluate examine exclude exit expand explain
    export express extend extract factor fetch fill filter find finish fit flag flatten flip fold follow force forget form format
    freeze gather generate get give group guard guess halve handle hash hide hold identify ignore import improve include increase
    index infer initialize insert inspect install integrate interleave interpolate interpret intersect invert invoke iterate join
    judge keep label launch lay leave lift limit linearize link list load localize locate log look lower make map mark mask match
    maximize measure merge minimize mirror move multiply name narrow negate normalize note notice number offer omit open order
    overlay override pack pad pair parse partition pass permute perturb pick place plot point polish pool predict prefer prepare
    prepend preserve print probe process produce project propagate propose protect prove provide prune pull push put quantize
    quote raise randomize rank re-raise read realize rearrange reassemble receive recognize recommend recompute reconstruct record
    recover reduce refer refine reflect refuse refute register reject relate release reload remember remove rename render reorder
    repeat replace replay report represent request require rescale reset reshape resolve respect restore restrict return reuse
    reverse revert rewrite rotate round run sample save scale scan score search seed select send separate serialize serve set
    shape shift shorten show shrink shuffle sign simplify simulate skip slice slow smooth solve sort sow spell split square
    squeeze stack standardize start state stop store stream stretch strip style submit subtract suggest sum summarize suppress
    swap sweep switch symmetrize tabulate tag take tell test tie tighten tile time trace track train transform translate transpose
    traverse treat trim truncate try tune turn undo unfold unite unpack unravel unroll unstack unwrap upcast update use validate
    vary vectorize verify visit wait walk warm warn watch weigh whiten widen work wrap write yield zero zip
    """.split()  # noqa: SIM905 - a list of so many strings would fill a screen for each letter
)

ALSO_NOUNS = frozenset(
    """
    answer balance bound box cache call change check color copy count cut delay display double draw drop dump end estimate exit
    export factor fill filter find fit flag fold force form format group guard guess hash hold import increase index join label
    launch limit link list log look make map mark mask match measure move name note notice number offer order pack pair place plot
    point pool print probe process produce project push quote rank read record report request reset round run sample save scale
    scan score search seed set shape shift show sign skip slice sort split square stack start state stop store stream stretch
    style sum sweep switch tag take test tie tile time trace track train transform turn update use wait walk watch work wrap yield
    zero zip
    """.split()  # noqa: SIM905
)
"""Verbs that are also nouns: "Time the runs" opens with a verb, "Time constants of" does not."""

DETERMINERS = frozenset(
    """
    a all an and any as both by each every from how if in into it its no one or out that the them this to two what where
    whether which
    """.split()  # noqa: SIM905
)
"""Words that follow the verb rather than the noun."""
