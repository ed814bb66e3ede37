"""What the migrations lead to."""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models.functions import Lower, Now


class Tag(models.Model):
    name = models.CharField(max_length=40, unique=True, db_comment="as people write it")

    class Meta:
        db_table_comment = "words"


class Customer(models.Model):
    email = models.EmailField(unique=True)
    full_name = models.CharField(max_length=80)
    since = models.DateTimeField(db_default=Now())
    settings = models.JSONField(default=dict)
    score = models.DecimalField(max_digits=12, decimal_places=3, default=0)

    class Meta:
        indexes = [
            models.Index(Lower("full_name"), name="customer_lower_name"),
            models.Index(fields=["-since"], name="customer_since", condition=models.Q(score__gt=0)),
        ]
        constraints = [models.CheckConstraint(condition=models.Q(score__gte=0), name="score_not_negative")]


class Product(models.Model):
    sku = models.UUIDField(primary_key=True)
    title = models.TextField()
    words = ArrayField(models.CharField(max_length=20), default=list)
    tags = models.ManyToManyField(Tag)
    upper = models.GeneratedField(
        expression=models.functions.Upper("title"), output_field=models.TextField(), db_persist=True
    )

    class Meta:
        indexes = [GinIndex(fields=["words"], name="product_words")]


class Purchase(models.Model):
    customer = models.ForeignKey(Customer, models.CASCADE, related_name="purchases")
    product = models.ForeignKey(Product, models.PROTECT)
    number = models.PositiveIntegerField()
    paid = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "product"], condition=models.Q(paid=False), name="one_open_purchase"
            ),
            models.UniqueConstraint(
                fields=["customer", "number"], name="numbered", deferrable=models.Deferrable.DEFERRED
            ),
        ]
