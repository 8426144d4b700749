"""An experiment: one run of the main job, its fields those of all recipes and those that single ones add.

Pixels are in [0, 1] throughout; eps and step sizes are in those units.
"""

import difflib
import logging
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import combinations
from operator import not_
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

from pydantic import (
    AfterValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    WithJsonSchema,
    create_model,
    field_validator,
    model_validator,
)

from advfeat.errors import InputError
from advfeat.numerals import fraction
from advfeat.planning.own_settings import further_in, merged, refused
from advfeat.recipes import (
    RECIPES,
    OwnSettings,
    cross_domain,
    names_file,
    plain_name,
    recipe_at_hand,
    recipe_named,
)
from advfeat.spec import DataSpec, EvaluationSpec, Seed, SourceSpec, Spec, TargetedAttack, TrainSpec, refusal

logger = logging.getLogger(__name__)


def _check_recipe(name: str) -> str:
    """Refuse what names no recipe."""
    if (recipe := recipe_at_hand(name)) is not None:
        return recipe.identity
    nearest = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise refusal("is unknown", f"{hint}choose from {', '.join(RECIPES)}, or give a FILE.py")


RecipeName = Annotated[
    str, AfterValidator(_check_recipe), WithJsonSchema({"type": "string", "enum": list(RECIPES)})
]
"""A recipe's name, or a ``FILE.py`` that holds one; in an experiment what digests call it."""

OF_ALL_RECIPES = ("name", "data", "other_data", "imported", "recipes", "seeds", "shards", "only")
"""The fields of an experiment that no recipe can have for itself."""


_IN_EVERY_REPORT = dict.fromkeys(
    (
        *("permutation", "label_noise", "noise", "rebuilding", "cross_domain", "other_data"),
        *("imported", "guards", "two_dimensional", "leakage_eps"),
    )
)
"""Own settings that every report's digest holds, whether their recipe is run or not.

Those of later recipes enter it where they are set, so that a new recipe changes no digest of before.
"""


class SharedFields(Spec):
    """One run of the main job: source models, a data set per recipe, target models, evaluation."""

    name: str = Field(default="experiment", min_length=1, max_length=80, description="heading of the report")
    data: DataSpec = Field(description="the real images")
    source: SourceSpec = Field(description="training of the source model that is attacked, or its weights")
    weak_source: SourceSpec = Field(
        description="training of the weak source model whose errors label the images of mislabeled"
    )
    robust_source: SourceSpec | None = Field(
        default=None,
        description="training of the robust source model of robust_features, with an adversarial attack; "
        "without that attack it is the standard source model of non_robust_features",
    )
    target: TrainSpec = Field(description="training of the target models")
    attack: TargetedAttack = Field(description="how adversarial examples are made")
    evaluation: EvaluationSpec = Field(
        default=EvaluationSpec(), description="what target models are tested on besides clean images"
    )
    recipes: tuple[RecipeName, ...] = Field(
        default=("clean", "d_rand", "d_det", "mislabeled", "shuffled"),
        min_length=1,
        description="the data sets to build and learn from",
    )
    seeds: tuple[Seed, ...] = Field(
        default=(0, 1, 2), min_length=1, max_length=1000, description="one repetition per seed"
    )
    shards: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="parts in which adversarial examples are generated; by size if unset; the "
        "result does not depend on it",
    )
    only: dict[RecipeName, dict[str, Any]] = Field(
        default={},
        exclude_if=not_,  # an experiment without it has the digests that it always had
        description="settings of one recipe only, instead of those above: "
        f"{{mislabeled: {{target: {{epochs: 50}}}}}}; any but {', '.join(OF_ALL_RECIPES[:-1])}",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _own_recipes_are_read(cls, fields: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Read recipes of files, whose own settings are fields too."""
        if not isinstance(fields, dict):
            return handler(fields)
        fields = _with_recipes_read(fields)
        settings = _further_settings(_listed(fields))
        if all(issubclass(cls, one) for one in settings):
            return handler(fields)
        return cast("Self", _wider(settings).model_validate(fields))

    @field_validator("recipes", "seeds")
    @classmethod
    def _entries_are_unique(cls, entries: tuple[object, ...]) -> tuple[object, ...]:
        names = [plain_name(entry) if isinstance(entry, str) else entry for entry in entries]
        if len(set(names)) != len(names):
            raise ValueError("names an entry twice")
        return entries

    @field_validator("only")
    @classmethod
    def _fractions_are_numbers(cls, only: dict[str, Any]) -> dict[str, Any]:
        return {recipe: _with_numbers(settings) for recipe, settings in only.items()}

    def of(self, recipe: RecipeName) -> Self:
        """Return the experiment with one recipe, and with its own settings in place of those of all."""
        recipe, shared = self.named(recipe), self.model_dump(exclude={"only"})
        return type(self).model_validate(merged(shared, self.only.get(recipe, {}) | {"recipes": (recipe,)}))

    def named(self, recipe: str) -> RecipeName:
        """Return what the experiment calls a recipe of it that a row calls by its plain name."""
        return next((name for name in self.recipes if plain_name(name) == recipe), recipe)

    def own(self, settings: type[OwnSettings]) -> OwnSettings:
        """Return the settings of this class that recipes added to the experiment."""
        fields = {name: getattr(self, name) for name in settings.model_fields}
        return cast("OwnSettings", settings.model_construct(**fields))

    @property
    def standard_source(self) -> SourceSpec | None:
        """The robust source model's training without its attack."""
        return self.robust_source and self.robust_source.in_training.model_copy(update={"adversarial": None})

    @property
    def data_specs(self) -> tuple[DataSpec, ...]:
        """All real images that take part."""
        if not any(RECIPES[name].originals == "other domain" for name in self.recipes):
            return (self.data,)
        other = self.own(cross_domain.Settings).other_data
        return (self.data,) if other is None else (self.data, other)

    def described(self) -> dict[str, Any]:
        """Return the fields that a report's digest holds, as JSON: not where images lie, nor shards."""
        later = {
            name: True
            for name, field in type(self).model_fields.items()
            if name not in SharedFields.model_fields | _IN_EVERY_REPORT
            and getattr(self, name) == field.get_default(call_default_factory=True)
        }
        return self.model_dump(
            mode="json", exclude={"shards": True, "data": {"root"}, "other_data": {"root"}, **later}
        )

    @model_validator(mode="after")
    def _recipes_have_what_they_need(self) -> Self:
        for name in self.recipes:
            # The others are looked at with their own settings.
            if name not in self.only and (problem := RECIPES[name].missing(self)) is not None:
                raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _single_recipes_can_have_their_settings(self) -> Self:
        for recipe, settings in self.only.items():
            place = ("only", recipe)
            if recipe not in self.recipes:
                raise refused(
                    place,
                    settings,
                    "is for a recipe that is not run",
                    f"add {recipe} to recipes, or leave it out",
                )
            for name in settings:
                if name in OF_ALL_RECIPES:
                    own = [field for field in type(self).model_fields if field not in OF_ALL_RECIPES]
                    problem, remedy = "is one for all recipes", f"a recipe may have its own {', '.join(own)}"
                    raise refused((*place, name), settings[name], problem, remedy)
            try:
                self.of(recipe)
            except ValidationError as error:
                raise further_in(place, error) from None
        return self


def _with_numbers(value: Any) -> Any:
    """Return plain fields with fractions as what they are worth, so that a digest holds no other spelling."""
    if isinstance(value, dict):
        return {name: _with_numbers(inner) for name, inner in value.items()}
    worth = fraction(value) if isinstance(value, str) else None
    return value if worth is None else worth


def model_of(fields: dict[str, Any]) -> "type[SharedFields]":
    """Return the model of an experiment of these fields: own settings of its recipes are fields of it."""
    return with_settings_of(_listed(_with_recipes_read(fields)))


def _listed(fields: dict[str, Any]) -> Sequence[Any]:
    """Return the recipes of plain fields; none where no list of them is given, which is told as a mistake."""
    recipes = fields.get("recipes")
    return recipes if isinstance(recipes, list | tuple) else ()


def _with_recipes_read(fields: dict[str, Any]) -> dict[str, Any]:
    """Return plain fields that call each recipe what digests call it; raises ``InputError`` about a file."""
    recipes, only = fields.get("recipes"), fields.get("only")
    if isinstance(recipes, list | tuple):
        recipes = [_identity(name) for name in recipes]
        fields = {**fields, "recipes": recipes}
        if isinstance(only, dict):
            own = {plain_name(name): name for name in recipes if isinstance(name, str)}
            fields["only"] = {own.get(name) or _identity(name): single for name, single in only.items()}
    return fields


def _identity(name: Any) -> Any:
    """Return what digests call a recipe, where it is one; what is none is told as a field's mistake."""
    return (
        recipe_named(name).identity
        if names_file(name) or (isinstance(name, str) and name in RECIPES)
        else name
    )


def with_settings_of(recipes: Iterable[Any]) -> "type[SharedFields]":
    """Return the model of an experiment, with the own settings of these recipes as fields too.

    Raises ``InputError`` if such a setting has the name of another field.
    """
    return _wider(_further_settings(recipes))


def _further_settings(recipes: Iterable[Any]) -> tuple[type[Spec], ...]:
    """Return the classes of own settings of recipes of files."""
    found = (recipe_at_hand(name) for name in recipes)
    own = {recipe.name: recipe for recipe in found if recipe is not None and recipe.own}
    further: list[type[Spec]] = []
    for recipe in own.values():
        before: tuple[type[Spec], ...] = (Experiment, *further)
        for other in before:
            if (problem := _contradiction(other, recipe.settings)) is not None:
                raise InputError("recipes", recipe.identity, problem, "give its setting another name")
        if not any(issubclass(other, recipe.settings) for other in before):
            further.append(recipe.settings)
    return tuple(further)


@cache
def _wider(settings: tuple[type[Spec], ...]) -> "type[SharedFields]":
    return _joined(Experiment, settings) if settings else Experiment


def _with_settings_of_recipes() -> "type[SharedFields]":
    """Return the model of an experiment, with the own settings of every recipe as fields."""
    before: list[type[Spec]] = [SharedFields]
    for name, recipe in list(RECIPES.items()):  # those of this package first
        problems = (_contradiction(other, recipe.settings) for other in before if recipe.own)
        if (problem := next(filter(None, problems), None)) is not None:
            logger.warning("recipe %r is left out: it %s", name, problem)
            del RECIPES[name]
        else:
            before.append(recipe.settings)
    classes: list[type[Spec]] = list(dict.fromkeys(recipe.settings for recipe in RECIPES.values()))
    bases = {base for one in classes for base in one.__mro__[1:]}
    return _joined(SharedFields, [one for one in classes if one not in bases])


def _joined(experiment: "type[SharedFields]", settings: Iterable[type[Spec]]) -> "type[SharedFields]":
    """Return a model with the fields of an experiment and those of settings."""
    parts: tuple[type[Spec], ...] = (experiment, *settings)
    for one, other in combinations(parts, 2):
        if (problem := _contradiction(one, other)) is not None:
            raise ValueError(f"{other.__module__} {problem}")
    made: Any = create_model(
        "Experiment", __base__=parts[::-1], __module__=__name__, __doc__=SharedFields.__doc__
    )
    return cast("type[SharedFields]", made)


_METHODS = {name for name in vars(SharedFields) if not name.startswith("_") and not hasattr(Spec, name)}
"""Those of an experiment, which settings of their names would replace."""


def _checks(settings: type[Spec], field: str) -> set[object]:
    """Return the functions that check a field of a class, its own and inherited ones."""
    validators = settings.__pydantic_decorators__.field_validators.values()
    functions = (each.func for each in validators if field in each.info.fields)
    return {getattr(function, "__func__", function) for function in functions}


def _contradiction(one: type[Spec], other: type[Spec]) -> str | None:
    """Say of which name two classes of settings mean different things."""
    own = {name for base in other.__mro__ if base not in Spec.__mro__ for name in vars(base)}
    if not issubclass(other, SharedFields) and (taken := _METHODS & (own | other.model_fields.keys())):
        return f"has a setting or a method {min(taken)}, as every experiment has"
    for name in one.model_fields.keys() & other.model_fields.keys():
        alike = repr(one.model_fields[name]) == repr(other.model_fields[name])
        if not alike or _checks(one, name) != _checks(other, name):
            module = sys.modules[one.__module__]
            whose = module.__name__ if module.__spec__ is not None else module.__file__  # of the user's own
            return f"has a setting {name}, which is another one of {whose}"
    return None


if TYPE_CHECKING:
    Experiment = SharedFields
else:
    Experiment = _with_settings_of_recipes()
